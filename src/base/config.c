/* SPDX-License-Identifier: MIT */
#include "base/config.h"

#include <fcntl.h>
#include <getopt.h>
#include <ini.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sysexits.h>

#include "base/log.h"
#include "base/time.h"

#define FILE_MAX (64 * 1024)

typedef enum KeyType {
    KEY_TEXT,
    KEY_LIST,  /* items separated by blanks or commas */
    KEY_PATHS, /* items separated by colons */
    KEY_COUNT,
    KEY_SIZE,
    KEY_SPAN,
} KeyType;

/* One row a setting. */
typedef struct Key {
    const char *section, *key, *option, *environment;
    KeyType type;
    size_t offset;
    uint64_t min, max; /* of the number, where the type is one */
    const char *value; /* the default */
    const char *argument, *help;
} Key;

#define FIELD(name) offsetof(Config, name)

static const Key keys[] = {
    { "Database", "Url", "database", "PGMILL_DATABASE", KEY_TEXT, FIELD(database), 0, 0, "dbname=pgmill",
        "URL", "PostgreSQL connection string or URI" },
    { "API", "Listen", "listen", "PGMILL_LISTEN", KEY_LIST, FIELD(listen), 0, 0, "127.0.0.1:8000,[::1]:8000",
        "ADDRESS", "HOST:PORT or socket path, when the service manager passes no socket" },
    { "API", "AllowedHosts", "allowed-hosts", "PGMILL_ALLOWED_HOSTS", KEY_LIST, FIELD(allowed_hosts), 0, 0,
        "", "NAMES", "host names to answer for besides localhost" },
    { "API", "BodyMax", "body-max", "PGMILL_BODY_MAX", KEY_SIZE, FIELD(body_max), 1024, 64 << 20, "1M",
        "SIZE", "largest request body" },
    { "Worker", "Queues", "queues", "PGMILL_QUEUES", KEY_LIST, FIELD(queues), 0, 0, "default", "NAMES",
        "queues to take tasks from" },
    { "Worker", "Concurrency", "concurrency", "PGMILL_CONCURRENCY", KEY_COUNT, FIELD(concurrency), 1, 1000,
        "4", "N", "tasks to run at once" },
    { "Worker", "TasksPath", "tasks", "PGMILL_TASKS", KEY_PATHS, FIELD(tasks), 0, 0,
        "/etc/pgmill/tasks.d:/usr/lib/pgmill/tasks.d", "DIRS",
        "folders of handler files; the first one wins" },
    { "Worker", "Grace", "grace", "PGMILL_GRACE", KEY_SPAN, FIELD(grace_usec), 3 * USEC_PER_SEC,
        3600 * USEC_PER_SEC, "30s", "TIME", "silent for so long, the tasks go to others" },
    { "Worker", "DrainSec", "drain", "PGMILL_DRAIN", KEY_SPAN, FIELD(drain_usec), 0, UINT64_MAX, "60s",
        "TIME", "how long running tasks may go on after SIGTERM" },
};

/* ---- lists ---- */

char **config_list_free(char **list) {
    for (char **p = list; p && *p; p++)
        free(*p);
    free(list);
    return NULL;
}

size_t config_list_length(char *const *list) {
    size_t n = 0;

    while (list && list[n])
        n++;
    return n;
}

static int list_parse(const char *value, const char *separators, char ***ret) {
    _cleanup_(freep) char *copy = strdup(value);
    char **list = calloc(strlen(value) / 2 + 2, sizeof(char *));
    char *state = NULL;
    size_t n = 0;

    if (!copy || !list) {
        free(list);
        return -ENOMEM;
    }
    for (char *item = strtok_r(copy, separators, &state); item; item = strtok_r(NULL, separators, &state)) {
        list[n] = strdup(item);
        if (!list[n++]) {
            config_list_free(list);
            return -ENOMEM;
        }
    }
    *ret = list;
    return 0;
}

/* ---- one setting ---- */

static int number_parse(KeyType type, const char *value, uint64_t *ret) {
    switch (type) {
    case KEY_SIZE:
        return parse_size(value, ret);
    case KEY_SPAN:
        return time_parse_span(value, ret);
    default:
        return parse_uint(value, UINT64_MAX, ret);
    }
}

/* -EINVAL: no such value. */
static int key_set(Config *c, const Key *k, const char *value) {
    void *field = (char *) c + k->offset;
    char **list = NULL;
    uint64_t number;
    int r;

    switch (k->type) {
    case KEY_TEXT:
        return string_replace(field, value);
    case KEY_LIST:
    case KEY_PATHS:
        r = list_parse(value, k->type == KEY_LIST ? ", \t" : ":", &list);
        if (r < 0)
            return r;
        config_list_free(*(char ***) field);
        *(char ***) field = list;
        return 0;
    default:
        r = number_parse(k->type, value, &number);
        if (r < 0 || number < k->min || number > k->max)
            return -EINVAL;
        *(uint64_t *) field = number;
        return 0;
    }
}

static int key_set_from(Config *c, const Key *k, const char *value, const char *where) {
    int r = key_set(c, k, value);

    if (r == -EINVAL)
        log_error("%s: \"%s\" is no value for it: %s", where, value, k->help);
    return r;
}

void config_done(Config *c) {
    for (size_t i = 0; i < ELEMENTS(keys); i++) {
        void *field = (char *) c + keys[i].offset;
        if (keys[i].type == KEY_TEXT)
            free(*(char **) field);
        else if (keys[i].type == KEY_LIST || keys[i].type == KEY_PATHS)
            config_list_free(*(char ***) field);
    }
    *c = (Config){};
}

/* ---- files ---- */

typedef struct Reader {
    FILE *file;
    unsigned line, bad_line;
    ConfigEntry entry;
    void *userdata;
    int error;
} Reader;

/* libinih takes a line at a time, so counting here says which line an entry is from. A line longer than its
 * buffer would come in pieces, each read as a line. */
static char *read_line(char *buffer, int size, void *stream) {
    Reader *reader = stream;

    char *line = fgets(buffer, size, reader->file);
    if (!line)
        return NULL;
    reader->line++;
    if (strlen(line) == (size_t) size - 1 && line[size - 2] != '\n' && !feof(reader->file)) {
        reader->error = -EBADMSG;
        reader->bad_line = reader->line;
        return NULL;
    }
    return line;
}

static int on_entry(void *userdata, const char *section, const char *key, const char *value) {
    Reader *reader = userdata;

    reader->error = reader->entry(reader->userdata, reader->line, section, key, value);
    if (reader->error < 0)
        reader->bad_line = reader->line;
    return reader->error >= 0;
}

static int read_stream(Reader *reader, unsigned *ret_line) {
    int r = ini_parse_stream(read_line, reader, on_entry, reader);

    *ret_line = reader->bad_line ? reader->bad_line : r > 0 ? (unsigned) r : 0;
    if (reader->error < 0)
        return reader->error;
    return r == 0 ? 0 : r < 0 ? -ENOMEM : -EBADMSG;
}

int config_read_text(const char *text, size_t len, ConfigEntry entry, void *userdata, unsigned *ret_line) {
    Reader reader = { .entry = entry, .userdata = userdata };

    *ret_line = 0;
    if (len > FILE_MAX)
        return -EFBIG;
    if (len == 0)
        return 0;
    if (memchr(text, '\0', len))
        return -EBADMSG;
    reader.file = fmemopen((char *) text, len, "r");
    if (!reader.file)
        return -errno;
    int r = read_stream(&reader, ret_line);
    (void) fclose(reader.file);
    return r;
}

int config_read_file(const char *path, ConfigEntry entry, void *userdata, unsigned *ret_line) {
    _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    _cleanup_(buf_done) Buf text = {};
    struct stat st;
    ssize_t n;

    *ret_line = 0;
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
    do {
        char *space = buf_reserve(&text, 4096);
        if (!space)
            return -ENOMEM;
        n = read(fd, space, 4096);
        if (n < 0)
            return -errno;
        buf_grew(&text, (size_t) n);
    } while (n > 0 && text.len <= FILE_MAX);
    return config_read_text(text.data, text.len, entry, userdata, ret_line);
}

typedef struct FileState {
    Config *config;
    const char *path;
} FileState;

static int on_setting(
    void *userdata, unsigned line, const char *section, const char *key, const char *value) {
    FileState *s = userdata;
    _cleanup_(freep) char *where = NULL;

    if (string_printf(&where, "%s:%u: %s=", s->path, line, key) < 0)
        return -ENOMEM;
    for (size_t i = 0; i < ELEMENTS(keys); i++)
        if (streq(keys[i].section, section) && streq(keys[i].key, key)) {
            int r = key_set_from(s->config, &keys[i], value, where);
            return r == -EINVAL ? -ECANCELED : r; /* logged */
        }
    log_warning("%s:%u: there is no %s= in section [%s]; ignored", s->path, line, key, section);
    return 0;
}

static int load_file(Config *c, const char *path) {
    FileState state = { .config = c, .path = path ? path : CONFIG_FILE_DEFAULT };
    unsigned line;

    int r = config_read_file(state.path, on_setting, &state, &line);
    if (r >= 0 || (r == -ENOENT && !path))
        return 0;
    if (r == -EBADMSG)
        log_error("%s:%u: neither [Section] nor Key=Value, or too long a line", state.path, line);
    else if (r != -ECANCELED)
        log_error_errno(r, "%s: %m", state.path);
    return r == -ENOMEM ? r : -EBADMSG;
}

/* ---- the command line ---- */

enum { OPTIONS_MAX = ELEMENTS(keys) + 1 + 24 };

/* The options a verb takes: --config, the keys of its section, its own. Key i has value i + 1, own option i
 * comes behind all keys. */
static void options_collect(
    const char *section, const Option *own, struct option ret[static OPTIONS_MAX + 1]) {
    size_t n = 0;

    ret[n++] = (struct option){ "config", required_argument, NULL, 1 };
    for (size_t i = 0; i < ELEMENTS(keys); i++)
        if (streq(keys[i].section, "Database") || streq(keys[i].section, section))
            ret[n++] = (struct option){ keys[i].option, required_argument, NULL, (int) i + 2 };
    for (size_t i = 0; own && own[i].name && n < OPTIONS_MAX; i++)
        ret[n++] = (struct option){ own[i].name, own[i].argument ? required_argument : no_argument, NULL,
            (int) (ELEMENTS(keys) + 2 + i) };
    ret[n] = (struct option){};
}

static int options_parse(const char *section, const Option *own, const char *file[static 1],
    const char *set[], const char *values[], int argc, char *argv[]) {
    struct option options[OPTIONS_MAX + 1];
    int c;

    options_collect(section, own, options);
    for (size_t i = 0; own && own[i].name; i++)
        values[i] = NULL;
    optind = 0;
    opterr = 0;
    while ((c = getopt_long(argc, argv, ":", options, NULL)) >= 0) {
        size_t i = (size_t) c;
        if (c == '?' || c == ':') {
            log_error("%s: %s; \"pgmill %s --help\" lists the options", argv[optind - 1],
                c == '?' ? "no such option, or not with an argument" : "needs an argument", argv[0]);
            return -EINVAL;
        }
        if (i == 1)
            *file = optarg;
        else if (i < ELEMENTS(keys) + 2)
            set[i - 2] = optarg;
        else
            values[i - ELEMENTS(keys) - 2] = optarg ? optarg : "";
    }
    return 0;
}

static int load_values(Config *c, const char *set[]) {
    for (size_t i = 0; i < ELEMENTS(keys); i++) {
        const char *value = set[i] ? set[i] : getenv(keys[i].environment);
        _cleanup_(freep) char *where = NULL;

        if (!value)
            continue;
        if (string_printf(&where, "%s%s", set[i] ? "--" : "", set[i] ? keys[i].option : keys[i].environment) <
            0)
            return -ENOMEM;
        int r = key_set_from(c, &keys[i], value, where);
        if (r < 0)
            return r == -EINVAL && !set[i] ? -EBADMSG : r;
    }
    return 0;
}

int config_load_with(Config *c, const char *section, const Option *options, const char *values[], int argc,
    char *argv[], char ***ret_args) {
    const char *set[ELEMENTS(keys)] = {}, *file = NULL;

    for (size_t i = 0; i < ELEMENTS(keys); i++) {
        int r = key_set(c, &keys[i], keys[i].value);
        if (r < 0)
            return r;
    }
    int r = options_parse(section, options, &file, set, values, argc, argv);
    if (r < 0)
        return r;
    r = load_file(c, file);
    if (r < 0)
        return r;
    r = load_values(c, set);
    if (r >= 0)
        *ret_args = argv + optind;
    return r;
}

int config_load(Config *c, const char *section, int argc, char *argv[], char ***ret_args) {
    return config_load_with(c, section, NULL, NULL, argc, argv, ret_args);
}

int config_exit_status(int r) {
    return r == -EINVAL ? EX_USAGE : r == -EBADMSG ? EX_CONFIG : EX_OSERR;
}

void config_print_option(const char *name, const char *argument, const char *help) {
    char left[40];

    (void) snprintf(left, sizeof(left), "--%s%s%s", name, argument ? "=" : "", argument ? argument : "");
    printf("  %-24s %s\n", left, help);
}

void config_print_options(const char *section) {
    config_print_option("config", "FILE", "configuration file (default: " CONFIG_FILE_DEFAULT ")");
    for (size_t i = 0; i < ELEMENTS(keys); i++)
        if (streq(keys[i].section, "Database") || streq(keys[i].section, section))
            config_print_option(keys[i].option, keys[i].argument, keys[i].help);
    config_print_option("help", NULL, "this text");
}
