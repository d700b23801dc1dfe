/* SPDX-License-Identifier: MIT */
#include "base/config.h"

#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <sysexits.h>

#include "base/ini.h"
#include "base/log.h"
#include "base/service.h"
#include "base/time.h"

#define CREDENTIAL_MAX (64 * 1024)

typedef enum KeyType {
    KEY_TEXT,
    KEY_FILE,  /* the path of one */
    KEY_LIST,  /* items separated by blanks or commas */
    KEY_PATHS, /* items separated by colons */
    KEY_COUNT,
    KEY_SIZE,
    KEY_SPAN,
    KEY_BOOLEAN, /* 0 or 1, as systemd.syntax(7) spells them */
} KeyType;

static bool is_text(KeyType type) {
    return type == KEY_TEXT || type == KEY_FILE;
}

/* One row a setting. */
typedef struct Key {
    const char *section, *key, *option, *environment;
    KeyType type;
    size_t offset;
    bool live;             /* takes effect on reload; else the service must be restarted */
    const char *min, *max; /* of the number, where the type is one */
    const char *value;     /* the default */
    const char *argument, *help;
    const char *credential; /* systemd.exec(5): holds the text, or is the file */
} Key;

#define FIELD(name) offsetof(Config, name)

static const Key keys[] = {
    { "Database", "Url", "database", "PGMILL_DATABASE", KEY_TEXT, FIELD(database), false, NULL, NULL,
        "dbname=pgmill", "URL", "PostgreSQL connection string or URI", "pgmill.database" },
    { "API", "Listen", "listen", "PGMILL_LISTEN", KEY_LIST, FIELD(listen), false, NULL, NULL,
        "127.0.0.1:8000,[::1]:8000", "ADDRESS",
        "HOST:PORT or socket path, when the service manager passes no socket" },
    { "API", "AllowedHosts", "allowed-hosts", "PGMILL_ALLOWED_HOSTS", KEY_LIST, FIELD(allowed_hosts), true,
        NULL, NULL, "", "NAMES", "host names to answer for besides localhost" },
    { "API", "BasePath", "base-path", "PGMILL_BASE_PATH", KEY_TEXT, FIELD(base_path), true, NULL, NULL, "",
        "PREFIX", "path of the API behind a proxy, for Location and Link" },
    { "API", "Tokens", "tokens", "PGMILL_TOKENS", KEY_FILE, FIELD(tokens), true, NULL, NULL, "", "PATH",
        "file of access tokens, see pgmill token --help", "pgmill.tokens" },
    { "API", "BodyMax", "body-max", "PGMILL_BODY_MAX", KEY_SIZE, FIELD(body_max), true, "1K", "64M", "1M",
        "SIZE", "largest request body" },
    { "API", "ConnectionsMax", "connections-max", "PGMILL_CONNECTIONS_MAX", KEY_COUNT, FIELD(connections_max),
        false, "20", "100000", "2000", "N", "connections in all" },
    { "API", "AddressConnectionsMax", "address-connections-max", "PGMILL_ADDRESS_CONNECTIONS_MAX", KEY_COUNT,
        FIELD(address_connections_max), true, "1", "100000", "256", "N",
        "connections from one address of another machine" },
    { "API", "QueueNames", "queue-names", "PGMILL_QUEUE_NAMES", KEY_COUNT, FIELD(queue_names), true, "1",
        "1000000", "1000", "N", "queues that the submissions of a token may bring into being" },
    { "Worker", "Queues", "queues", "PGMILL_QUEUES", KEY_LIST, FIELD(queues), false, NULL, NULL, "default",
        "NAMES", "queues to take tasks from" },
    { "Worker", "Concurrency", "concurrency", "PGMILL_CONCURRENCY", KEY_COUNT, FIELD(concurrency), false, "1",
        "1000", "4", "N", "tasks to run at once" },
    { "Worker", "PausedTasksHoldSlots", "paused-tasks-hold-slots", "PGMILL_PAUSED_TASKS_HOLD_SLOTS",
        KEY_BOOLEAN, FIELD(paused_hold), false, "no", "yes", "no", "BOOL",
        "whether no other task runs in place of a paused one" },
    { "Worker", "PayloadMemory", "payload-memory", "PGMILL_PAYLOAD_MEMORY", KEY_SIZE, FIELD(payload_memory),
        false, "1M", "1T", "64M", "SIZE", "what payloads over 64K take together, unless one is larger" },
    { "Worker", "TasksPath", "tasks", "PGMILL_TASKS", KEY_PATHS, FIELD(tasks), false, NULL, NULL,
        "/etc/pgmill/tasks.d:/usr/lib/pgmill/tasks.d", "DIRS",
        "folders of handler files; the first one wins" },
    { "Worker", "Grace", "grace", "PGMILL_GRACE", KEY_SPAN, FIELD(grace_usec), false, "3s", "1h", "30s",
        "TIME", "silent for so long, the tasks go to others" },
    { "Worker", "DrainSec", "drain", "PGMILL_DRAIN", KEY_SPAN, FIELD(drain_usec), false, "0", "infinity",
        "60s", "TIME", "how long running tasks may go on after SIGTERM" },
    { "Worker", "IdleExitSec", "idle-exit", "PGMILL_IDLE_EXIT", KEY_SPAN, FIELD(idle_exit_usec), false,
        "100ms", "infinity", "infinity", "TIME", "end when there was nothing to do for so long" },
    { "Prune", "Completed", "completed", "PGMILL_KEEP_COMPLETED", KEY_SPAN, FIELD(keep_completed_usec), false,
        "1h", "infinity", "7d", "TIME", "how long COMPLETED tasks are kept" },
    { "Prune", "Cancelled", "cancelled", "PGMILL_KEEP_CANCELLED", KEY_SPAN, FIELD(keep_cancelled_usec), false,
        "1h", "infinity", "7d", "TIME", "how long CANCELLED tasks are kept" },
    { "Prune", "Failed", "failed", "PGMILL_KEEP_FAILED", KEY_SPAN, FIELD(keep_failed_usec), false, "1h",
        "infinity", "30d", "TIME", "how long FAILED tasks are kept" },
};

/* Is it one of that section, or of all? */
static bool shared(const Key *k, const char *section) {
    return section && (streq(k->section, "Database") || streq(k->section, section));
}

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

static int parse_boolean(const char *s, uint64_t *ret) {
    static const char *const words[][4] = { { "no", "false", "off", "0" }, { "yes", "true", "on", "1" } };

    for (size_t value = 0; value < ELEMENTS(words); value++)
        for (size_t i = 0; i < ELEMENTS(words[value]); i++)
            if (streq(s, words[value][i])) {
                *ret = value;
                return 0;
            }
    return -EINVAL;
}

static int number_parse(KeyType type, const char *value, uint64_t *ret) {
    switch (type) {
    case KEY_SIZE:
        return parse_size(value, ret);
    case KEY_SPAN:
        return time_parse_span(value, ret);
    case KEY_BOOLEAN:
        return parse_boolean(value, ret);
    default:
        return parse_uint(value, UINT64_MAX, ret);
    }
}

static bool in_range(const Key *k, uint64_t number) {
    uint64_t min = 0, max = 0;

    (void) number_parse(k->type, k->min, &min);
    (void) number_parse(k->type, k->max, &max);
    return number >= min && number <= max;
}

/* -EINVAL: no such value. */
static int key_set(Config *c, const Key *k, const char *value) {
    void *field = (char *) c + k->offset;
    char **list = NULL;
    uint64_t number;
    int r;

    switch (k->type) {
    case KEY_TEXT:
    case KEY_FILE:
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
        if (number_parse(k->type, value, &number) < 0 || !in_range(k, number))
            return -EINVAL;
        *(uint64_t *) field = number;
        return 0;
    }
}

static int key_set_from(Config *c, const Key *k, const char *value, const char *where) {
    const char *what = k->type == KEY_SIZE      ? "a size"
                       : k->type == KEY_SPAN    ? "a time"
                       : k->type == KEY_BOOLEAN ? "a switch"
                                                : "a number";
    int r = key_set(c, k, value);

    if (r == -EINVAL)
        log_error("%s: \"%s\" must be %s from %s to %s: %s", where, value, what, k->min, k->max, k->help);
    return r;
}

void config_done(Config *c) {
    for (size_t i = 0; i < ELEMENTS(keys); i++) {
        void *field = (char *) c + keys[i].offset;
        if (is_text(keys[i].type))
            free(*(char **) field);
        else if (keys[i].type == KEY_LIST || keys[i].type == KEY_PATHS)
            config_list_free(*(char ***) field);
    }
    free(c->file);
    *c = (Config){};
}

/* ---- files of variables ---- */

int config_variables_path(const Config *c, const char *instance, char **ret) {
    const char *slash = strrchr(c->file, '/');

    return string_printf(
        ret, "%.*sworker@%s.conf", slash ? (int) (slash + 1 - c->file) : 0, c->file, instance);
}

const char *config_variable_useless(const char *name) {
    for (size_t i = 0; i < ELEMENTS(keys); i++) {
        if (streq(keys[i].environment, name))
            return shared(&keys[i], "Worker") ? NULL : "is no setting of a worker";
        if (strcasecmp(keys[i].key, name) == 0 || strcasecmp(keys[i].environment, name) == 0)
            return "is not how a variable is written: see pgmill.conf(5)";
    }
    return strncmp(name, "PGMILL_", 7) == 0 ? "is no variable of pgmill" : NULL;
}

/* ---- the file ---- */

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

/* Client verbs, which any user may call, go without what this user may not read. */
static int load_file(Config *c, const char *path, bool client) {
    FileState state = { .config = c, .path = path ? path : CONFIG_FILE_DEFAULT };
    unsigned line;

    int r = string_replace(&c->file, state.path);
    if (r < 0)
        return r;
    r = ini_read_file(state.path, on_setting, &state, &line);
    c->hidden = r == -EACCES && !path && client;
    if (r >= 0 || (r == -ENOENT && !path) || c->hidden)
        return 0;
    if (r == -EBADMSG)
        log_error("%s:%u: neither [Section] nor Key=Value, too long a line, or not text", state.path, line);
    else if (r != -ECANCELED)
        log_error_errno(r, "%s: %m", state.path);
    return r == -ENOMEM ? r : -EBADMSG;
}

/* ---- the command line ---- */

enum { OPTIONS_MAX = ELEMENTS(keys) + 2 + 24 };

/* The options a verb takes: --help (value 0), --config (1), the keys of its section (from 2 on), and its own, which come
 * behind all keys. */
static void options_collect(
    const char *section, const Option *own, struct option ret[static OPTIONS_MAX + 1]) {
    size_t n = 0;

    ret[n++] = (struct option){ "help", no_argument, NULL, 0 };
    if (section)
        ret[n++] = (struct option){ "config", required_argument, NULL, 1 };
    for (size_t i = 0; i < ELEMENTS(keys); i++)
        if (shared(&keys[i], section))
            ret[n++] = (struct option){ keys[i].option, required_argument, NULL, (int) i + 2 };
    for (size_t i = 0; own && own[i].name && n < OPTIONS_MAX; i++)
        ret[n++] = (struct option){ own[i].name, own[i].argument ? required_argument : no_argument, NULL,
            (int) (ELEMENTS(keys) + 2 + i) };
    ret[n] = (struct option){};
}

bool config_wants_help(const char *section, const Option *options, int argc, char *argv[]) {
    struct option all[OPTIONS_MAX + 1];
    int c;

    options_collect(section, options, all);
    optind = 0;
    opterr = 0;
    while ((c = getopt_long(argc, argv, ":", all, NULL)) > 0)
        ;
    return c == 0;
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

/* ---- credentials ---- */

static int credential_read(Config *c, const Key *k, const char *path) {
    _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    _cleanup_(buf_done) Buf text = {};

    int r = fd < 0 ? -errno : buf_read(&text, fd, CREDENTIAL_MAX);
    if (r < 0)
        return log_error_errno(r, "%s: %m", path);
    if (text.len > 0 && text.data[text.len - 1] == '\n')
        text.data[--text.len] = '\0';
    if (text.len == 0 || strcspn(text.data, "\n") < text.len) { /* strcspn() ends at a NUL, too */
        log_error("%s: it must be one line, %s", path, k->help);
        return -EBADMSG;
    }
    return key_set(c, k, text.data);
}

/* Root's verbs connect as the services do, with what systemd reads for those. A mere path would be of no use to them. */
static int credential_find(const Key *k, char **ret_path) {
    _cleanup_(freep) char *stored = NULL;

    int r = service_credential(k->credential, ret_path);
    if (r < 0 || *ret_path || k->type != KEY_TEXT || geteuid() != 0)
        return r;
    r = string_printf(&stored, CREDENTIAL_STORE "/%s", k->credential);
    if (r >= 0 && access(stored, F_OK) == 0)
        *ret_path = TAKE_PTR(stored);
    return r;
}

/* For what the file leaves at its default. */
static int load_credential(Config *c, const Key *k) {
    _cleanup_(freep) char *path = NULL;

    if (!k->credential || !streq(*(char **) ((char *) c + k->offset), k->value))
        return 0;
    int r = credential_find(k, &path);
    if (r >= 0 && path)
        r = k->type == KEY_FILE ? key_set(c, k, path) : credential_read(c, k, path);
    return r >= 0 || r == -ENOMEM ? r : -EBADMSG;
}

/* ---- all of them ---- */

static int load_values(Config *c, const char *set[]) {
    for (size_t i = 0; i < ELEMENTS(keys); i++) {
        const char *value = set[i] ? set[i] : getenv(keys[i].environment);
        _cleanup_(freep) char *where = NULL;

        if (!value) {
            int r = load_credential(c, &keys[i]);
            if (r < 0)
                return r;
            continue;
        }
        if (string_printf(&where, "%s%s", set[i] ? "--" : "", set[i] ? keys[i].option : keys[i].environment) <
            0)
            return -ENOMEM;
        int r = key_set_from(c, &keys[i], value, where);
        if (r < 0)
            return r == -EINVAL && !set[i] ? -EBADMSG : r;
        c->database_named |= keys[i].offset == offsetof(Config, database);
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
    *ret_args = argv + optind;
    if (!section)
        return 0;
    r = load_file(c, file, !*section);
    return r < 0 ? r : load_values(c, set);
}

int config_load(Config *c, const char *section, int argc, char *argv[], char ***ret_args) {
    return config_load_with(c, section, NULL, NULL, argc, argv, ret_args);
}

/* ---- reloading ---- */

static bool same(const Config *a, const Config *b, const Key *k) {
    const void *x = (const char *) a + k->offset, *y = (const char *) b + k->offset;

    if (is_text(k->type))
        return streq(*(char *const *) x, *(char *const *) y);
    if (k->type != KEY_LIST && k->type != KEY_PATHS)
        return *(const uint64_t *) x == *(const uint64_t *) y;
    char *const *p = *(char **const *) x, *const *q = *(char **const *) y;
    while (*p && *q && streq(*p, *q)) {
        p++;
        q++;
    }
    return !*p && !*q;
}

static void swap(Config *a, Config *b, const Key *k) {
    char *x = (char *) a + k->offset, *y = (char *) b + k->offset, saved[sizeof(uint64_t)];
    size_t n = k->type == KEY_COUNT || k->type == KEY_SIZE || k->type == KEY_SPAN || k->type == KEY_BOOLEAN
                   ? sizeof(uint64_t)
                   : sizeof(char *);

    memcpy(saved, x, n);
    memcpy(x, y, n);
    memcpy(y, saved, n);
}

void config_adopt(Config *c, Config *next, const char *section) {
    for (size_t i = 0; i < ELEMENTS(keys); i++) {
        const Key *k = &keys[i];
        if (k->live)
            swap(c, next, k);
        else if (shared(k, section) && !same(c, next, k))
            log_notice("%s= in section [%s] has changed; that takes a restart", k->key, k->section);
    }
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
    if (section)
        config_print_option("config", "FILE", "configuration file (default: " CONFIG_FILE_DEFAULT ")");
    for (size_t i = 0; i < ELEMENTS(keys); i++)
        if (shared(&keys[i], section))
            config_print_option(keys[i].option, keys[i].argument, keys[i].help);
    config_print_option("help", NULL, "this text");
}
