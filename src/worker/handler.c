/* SPDX-License-Identifier: MIT */
#include "worker/handler.h"

#include <dirent.h>
#include <stdio.h>

#include "base/config.h"
#include "base/ini.h"
#include "base/log.h"
#include "base/time.h"
#include "store/task.h"

#define ATTEMPTS_DEFAULT 3
#define ARGUMENTS_MAX    64

static void handler_done(Handler *h) {
    config_list_free(h->argv);
    free(h->name);
    *h = (Handler){};
}

void handlers_done(Handlers *h) {
    for (size_t i = 0; i < h->n; i++)
        handler_done(&h->list[i]);
    free(h->list);
    free(h->names);
    free(h->tries);
    *h = (Handlers){};
}

/* ---- values ---- */

/* One word of a command line: up to a blank, or between double quotes with \" and \\ inside. 1: word, 0: end. */
static int next_word(const char **p, Buf *word) {
    const char *s = *p + strspn(*p, " \t");
    bool quoted = false;

    buf_clear(word);
    if (!*s)
        return 0;
    for (; *s && (quoted || !strchr(" \t", *s)); s++) {
        if (*s == '"')
            quoted = !quoted;
        else if (quoted && *s == '\\' && (s[1] == '"' || s[1] == '\\'))
            buf_putc(word, *++s);
        else
            buf_putc(word, *s);
    }
    *p = s;
    if (quoted)
        return -EINVAL;
    return buf_error(word) < 0 ? -ENOMEM : 1;
}

static int exec_parse(Handler *h, const char *value) {
    _cleanup_(buf_done) Buf word = {};
    char **argv = calloc(ARGUMENTS_MAX + 1, sizeof(char *));
    size_t n = 0;
    int r;

    if (!argv)
        return -ENOMEM;
    while ((r = next_word(&value, &word)) > 0) {
        r = n == ARGUMENTS_MAX ? -EINVAL : string_replace(&argv[n++], word.data ? word.data : "");
        if (r < 0)
            break;
    }
    if (r == 0 && (n == 0 || argv[0][0] != '/'))
        r = -EINVAL;
    if (r < 0) {
        config_list_free(argv);
        return r;
    }
    config_list_free(h->argv);
    h->argv = argv;
    return 0;
}

static int mode_parse(Handler *h, const char *value) {
    h->executor = executor_find(value);
    return h->executor ? 0 : -EINVAL;
}

static int timeout_parse(Handler *h, const char *value) {
    int r = time_parse_span(value, &h->timeout_usec);
    return r < 0 ? r : h->timeout_usec == 0 ? -EINVAL : 0;
}

static int attempts_parse(Handler *h, const char *value) {
    uint64_t n;
    int r = parse_uint(value, TASK_ATTEMPTS_MAX, &n);
    if (r < 0 || n == 0)
        return -EINVAL;
    h->max_attempts = (int) n;
    return 0;
}

static int backoff_parse(Handler *h, const char *value) {
    char kind[16], first[32], max[32];
    int n = sscanf(value, "%15s %31s %31s", kind, first, max);
    Backoff b = { .fixed = n == 2 && streq(kind, "fixed") };

    if (!b.fixed && (n != 3 || !streq(kind, "exponential")))
        return -EINVAL;
    if (time_parse_span(first, &b.first_usec) < 0 || time_parse_span(b.fixed ? first : max, &b.max_usec) < 0)
        return -EINVAL;
    if (b.max_usec < b.first_usec || b.max_usec > 366 * 86400 * USEC_PER_SEC)
        return -EINVAL;
    h->backoff = b;
    return 0;
}

/* One row a key. */
static const struct {
    const char *key;
    int (*parse)(Handler *h, const char *value);
    const char *rule;
} keys[] = {
    { "Exec", exec_parse, "an absolute path and at most 63 arguments" },
    { "Mode", mode_parse, "oneshot" },
    { "Timeout", timeout_parse, "a span of time like 10min" },
    { "MaxAttempts", attempts_parse, "a number from 1 to 1000" },
    { "Backoff", backoff_parse, "\"exponential FIRST MAX\" or \"fixed TIME\", spans of time" },
};

/* ---- files ---- */

typedef struct FileState {
    Handler *handler;
    const char *path;
} FileState;

static int on_entry(void *userdata, unsigned line, const char *section, const char *key, const char *value) {
    FileState *s = userdata;

    for (size_t i = 0; i < ELEMENTS(keys); i++) {
        if (!streq(section, "Task") || !streq(keys[i].key, key))
            continue;
        int r = keys[i].parse(s->handler, value);
        if (r == -EINVAL || r == -ERANGE) {
            log_error("%s:%u: %s=%s: must be %s", s->path, line, key, value, keys[i].rule);
            return -ECANCELED;
        }
        return r;
    }
    log_warning("%s:%u: there is no %s= in section [%s]; ignored", s->path, line, key, section);
    return 0;
}

/* -ECANCELED: logged. -ENOENT: no such file. */
static int file_load(const char *path, Handler *h) {
    FileState state = { .handler = h, .path = path };
    unsigned line;

    int r = ini_read_file(path, on_entry, &state, &line);
    if (r == -EBADMSG)
        log_error("%s:%u: neither [Section] nor Key=Value, or too long a line", path, line);
    else if (r < 0 && r != -ENOENT && r != -ECANCELED && r != -ENOMEM)
        (void) log_error_errno(r, "%s: %m", path);
    return r >= 0 || r == -ENOENT || r == -ENOMEM ? r : -ECANCELED;
}

static bool has_suffix(const char *s, const char *suffix) {
    size_t n = strlen(s), m = strlen(suffix);
    return n > m && streq(s + n - m, suffix);
}

static int conf_file(const struct dirent *e) {
    return e->d_name[0] != '.' && has_suffix(e->d_name, ".conf");
}

static void entries_free(struct dirent **entries, int n) {
    for (int i = 0; i < n; i++)
        free(entries[i]);
    free(entries);
}

static int drop_ins_load(const char *folder, const char *file, Handler *h) {
    _cleanup_(freep) char *dir = NULL;
    struct dirent **entries = NULL;
    int r = 0;

    if (string_printf(&dir, "%s/%s.d", folder, file) < 0)
        return -ENOMEM;
    int n = scandir(dir, &entries, conf_file, alphasort);
    for (int i = 0; i < n && r >= 0; i++) {
        _cleanup_(freep) char *path = NULL;
        r = string_printf(&path, "%s/%s", dir, entries[i]->d_name);
        if (r >= 0)
            r = file_load(path, h);
    }
    entries_free(entries, n);
    return r;
}

/* The file of the first folder that has it, then everybody's drop-ins, the least important folder first. */
static int handler_load(char *const *path, const char *file, Handler *h) {
    size_t folders = config_list_length(path);
    int r = -ENOENT;

    *h = (Handler){ .executor = &executor_oneshot,
        .timeout_usec = UINT64_MAX,
        .max_attempts = ATTEMPTS_DEFAULT,
        .backoff = { .first_usec = USEC_PER_SEC, .max_usec = 3600 * USEC_PER_SEC } };
    for (size_t i = 0; i < folders && r == -ENOENT; i++) {
        _cleanup_(freep) char *full = NULL;
        if (string_printf(&full, "%s/%s", path[i], file) < 0)
            return -ENOMEM;
        r = file_load(full, h);
    }
    for (size_t i = folders; i > 0 && r >= 0; i--)
        r = drop_ins_load(path[i - 1], file, h);
    if (r >= 0 && !h->argv) {
        log_error("%s: has no Exec=", file);
        r = -ECANCELED;
    }
    if (r >= 0) {
        h->name = strndup(file, strlen(file) - strlen(".conf"));
        r = h->name ? 0 : -ENOMEM;
    }
    if (r < 0)
        handler_done(h);
    return r;
}

static int handlers_add(Handlers *hs, char *const *path, const char *file) {
    char name[256];

    (void) snprintf(name, sizeof(name), "%.*s", (int) (strlen(file) - strlen(".conf")), file);
    if (handlers_find(hs, name))
        return 0; /* from an earlier folder */
    if (!task_label_valid(name)) {
        log_error("%s: the file is not named after a task: " TASK_LABEL_RULE, file);
        return 0;
    }
    Handler *list = reallocarray(hs->list, hs->n + 1, sizeof(Handler));
    if (!list)
        return -ENOMEM;
    hs->list = list;
    int r = handler_load(path, file, &list[hs->n]);
    if (r >= 0)
        hs->n++;
    return r == -ENOMEM ? r : 0;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const Handler *) a)->name, ((const Handler *) b)->name);
}

static int handlers_index(Handlers *h) {
    h->names = calloc(h->n + 1, sizeof(char *));
    h->tries = calloc(h->n + 1, sizeof(int));
    if (!h->names || !h->tries)
        return -ENOMEM;
    if (h->n > 0)
        qsort(h->list, h->n, sizeof(Handler), by_name);
    for (size_t i = 0; i < h->n; i++) {
        h->names[i] = h->list[i].name;
        h->tries[i] = h->list[i].max_attempts;
    }
    return 0;
}

int handlers_load(char *const *path, Handlers *ret) {
    _cleanup_(handlers_done) Handlers h = {};
    int r = 0;

    for (size_t i = 0; path[i] && r >= 0; i++) {
        struct dirent **entries = NULL;
        int n = scandir(path[i], &entries, conf_file, alphasort);
        if (n < 0 && errno != ENOENT)
            log_warning_errno(-errno, "%s: %m", path[i]);
        for (int k = 0; k < n && r >= 0; k++)
            r = handlers_add(&h, path, entries[k]->d_name);
        entries_free(entries, n);
    }
    if (r >= 0)
        r = handlers_index(&h);
    if (r < 0)
        return r;
    *ret = h;
    h = (Handlers){};
    return 0;
}

/* Also while the list is not sorted yet: there are few. */
const Handler *handlers_find(const Handlers *h, const char *name) {
    for (size_t i = 0; i < h->n; i++)
        if (streq(h->list[i].name, name))
            return &h->list[i];
    return NULL;
}

uint64_t backoff_delay(const Backoff *b, unsigned attempt) {
    uint64_t delay = b->first_usec;

    for (unsigned i = 1; !b->fixed && i < attempt && delay < b->max_usec; i++)
        delay *= 2;
    delay = MIN(delay, b->max_usec);
    return delay / 2 + (delay > 1 ? random_u32() * (delay / 2) / UINT32_MAX : 0);
}
