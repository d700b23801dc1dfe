/* SPDX-License-Identifier: MIT */
/*
 * The keys of handler files: one row each in keys[]. A key of a known sort of value is a field of Handler and a row.
 */
#include "base/config.h"
#include "base/time.h"
#include "store/db.h"
#include "store/task.h"
#include "worker/handler.h"

#define ARGUMENTS_MAX    64
#define BACKOFF_MAX_USEC (366 * 86400 * USEC_PER_SEC)

/* ---- sorts of values: each reads text into a field of its type; -EINVAL, -ERANGE: no such value, -ENOMEM ---- */

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

/* char **: NULL for no text at all. */
static int read_command(void *field, const char *value) {
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
    if (r == 0 && n > 0 && argv[0][0] != '/')
        r = -EINVAL;
    if (r < 0 || n == 0)
        argv = config_list_free(argv);
    if (r < 0)
        return r;
    config_list_free(*(char ***) field);
    *(char ***) field = argv;
    return 0;
}

/* char *: NULL for no text. */
static int read_text(void *field, const char *value) {
    return string_replace(field, *value ? value : NULL);
}

/* The same; a libpq connection string or URI. */
static int read_database(void *field, const char *value) {
    _cleanup_(freep) char *name = NULL;
    int r = db_conninfo_get(value, "dbname", &name, NULL);

    return r < 0 ? r : read_text(field, value);
}

static int read_mode(void *field, const char *value) {
    const Executor *executor = executor_find(value);

    if (!executor)
        return -EINVAL;
    *(const Executor **) field = executor;
    return 0;
}

/* uint64_t, microseconds; UINT64_MAX: infinity. */
static int read_span(void *field, const char *value) {
    uint64_t usec;
    int r = time_parse_span(value, &usec);

    if (r < 0 || usec == 0)
        return -EINVAL;
    *(uint64_t *) field = usec;
    return 0;
}

/* uint64_t, at least 1; UINT64_MAX: infinity. */
static int read_count(void *field, const char *value) {
    uint64_t n = UINT64_MAX;

    if (!streq(value, "infinity") && (parse_uint(value, 1000000, &n) < 0 || n == 0))
        return -EINVAL;
    *(uint64_t *) field = n;
    return 0;
}

/* uint64_t */
static int read_ahead(void *field, const char *value) {
    return parse_uint(value, 1000, field);
}

/* uint64_t, bytes; UINT64_MAX: infinity. */
static int read_size(void *field, const char *value) {
    uint64_t n = UINT64_MAX;

    if (!streq(value, "infinity") && (parse_size(value, &n) < 0 || n == 0))
        return -EINVAL;
    *(uint64_t *) field = n;
    return 0;
}

/* uint64_t: "150%" is 150; UINT64_MAX: infinity. */
static int read_percent(void *field, const char *value) {
    char digits[8];
    uint64_t n = UINT64_MAX;
    size_t len = strlen(value) - 1;

    if (!streq(value, "infinity")) {
        if (value[len] != '%' || len >= sizeof(digits))
            return -EINVAL;
        digits[len] = '\0';
        if (parse_uint(memcpy(digits, value, len), 100000, &n) < 0 || n == 0)
            return -EINVAL;
    }
    *(uint64_t *) field = n;
    return 0;
}

static int read_weight(void *field, const char *value) {
    uint64_t n;

    if (parse_uint(value, 10000, &n) < 0 || n == 0)
        return -EINVAL;
    *(uint64_t *) field = n;
    return 0;
}

/* Between being asked to end and being killed: not for ever. */
static int read_grace(void *field, const char *value) {
    uint64_t usec;

    if (time_parse_span(value, &usec) < 0 || usec > 3600 * USEC_PER_SEC)
        return -EINVAL;
    *(uint64_t *) field = usec;
    return 0;
}

static int read_attempts(void *field, const char *value) {
    uint64_t n;

    if (parse_uint(value, TASK_ATTEMPTS_MAX, &n) < 0 || n == 0)
        return -EINVAL;
    *(int *) field = (int) n;
    return 0;
}

static int read_steps(Backoff *b, const char *value) {
    _cleanup_(buf_done) Buf word = {};
    int r;

    while ((r = next_word(&value, &word)) > 0)
        if (b->n == BACKOFF_STEPS_MAX || time_parse_span(word.data ? word.data : "", &b->steps[b->n]) < 0 ||
            b->steps[b->n++] > BACKOFF_MAX_USEC)
            return -EINVAL;
    return r < 0 ? r : b->n == 0 ? -EINVAL : 0;
}

/* Backoff: a kind and its steps; without a kind a list of them. */
static int read_backoff(void *field, const char *value) {
    const char *rest = value;
    _cleanup_(buf_done) Buf kind = {};
    Backoff b = {};

    int r = next_word(&rest, &kind);
    if (r <= 0)
        return r < 0 ? r : -EINVAL;
    bool fixed = streq(kind.data ? kind.data : "", "fixed");
    b.exponential = streq(kind.data ? kind.data : "", "exponential");
    r = read_steps(&b, fixed || b.exponential ? rest : value);
    if (r < 0)
        return r;
    if ((fixed && b.n != 1) || (b.exponential && (b.n != 2 || b.steps[1] < b.steps[0])))
        return -EINVAL;
    *(Backoff *) field = b;
    return 0;
}

static int read_bound(Recycle *r, const char *word) {
    static const struct {
        const char *prefix;
        size_t offset;
        int (*read)(void *field, const char *value);
    } bounds[] = {
        { "tasks:", offsetof(Recycle, tasks), read_count },
        { "memory:", offsetof(Recycle, memory), read_size },
        { "time:", offsetof(Recycle, usec), read_span },
    };

    for (size_t i = 0; i < ELEMENTS(bounds); i++) {
        const size_t n = strlen(bounds[i].prefix);
        if (strncmp(word, bounds[i].prefix, n) == 0)
            return bounds[i].read((char *) r + bounds[i].offset, word + n);
    }
    return -EINVAL;
}

/* Recycle: some of its bounds, by name. */
static int read_recycle(void *field, const char *value) {
    Recycle recycle = { .tasks = UINT64_MAX, .memory = UINT64_MAX, .usec = UINT64_MAX };
    _cleanup_(buf_done) Buf word = {};
    int r;

    while ((r = next_word(&value, &word)) > 0) {
        r = read_bound(&recycle, word.data ? word.data : "");
        if (r < 0)
            return r;
    }
    if (r >= 0)
        *(Recycle *) field = recycle;
    return r;
}

/* ---- the keys ---- */

#define FIELD(name) offsetof(Handler, name)

#define PROGRAMS "oneshot, stream"

static const struct {
    const char *key;
    int (*read)(void *field, const char *value);
    size_t offset;
    const char *value; /* the default */
    const char *rule;  /* "must be …" */
    const char *modes; /* that it means something to, by name; NULL: all */
} keys[] = {
    { "Exec", read_command, FIELD(argv), "", "an absolute path and at most 63 arguments", PROGRAMS },
    { "Mode", read_mode, FIELD(executor), "oneshot", "oneshot, stream or sql" },
    { "Sql", read_text, FIELD(sql), "", "a statement", "sql" },
    { "Role", read_text, FIELD(role), "", "a role of the database", "sql" },
    { "Database", read_database, FIELD(database), "", "a PostgreSQL connection string or URI", "sql" },
    { "Concurrency", read_count, FIELD(concurrency), "infinity", "a number from 1 to 1000000, or infinity" },
    { "ReadAhead", read_ahead, FIELD(read_ahead), "0", "a number from 0 to 1000" },
    { "Timeout", read_span, FIELD(timeout_usec), "infinity", "a span of time like 10min, or infinity" },
    { "KillGrace", read_grace, FIELD(kill_grace_usec), "5s", "a span of time up to 1h" },
    { "MaxAttempts", read_attempts, FIELD(max_attempts), "3", "a number from 1 to 1000" },
    { "Backoff", read_backoff, FIELD(backoff), "exponential 1s 1h",
        "\"exponential FIRST MAX\", \"fixed TIME\" or a list of at most 16 times like \"1s 10s 1min\"" },
    { "DeferMax", read_count, FIELD(defer_max), "100", "a number from 1 to 1000000, or infinity" },
    { "WatchdogSec", read_span, FIELD(watchdog_usec), "infinity", "a span of time like 30s, or infinity",
        "oneshot" },
    { "RecycleAfter", read_recycle, FIELD(recycle), "",
        "some of \"tasks:NUMBER memory:SIZE time:SPAN\", such as \"tasks:10000 time:1h\"", "stream" },
    { "LogRateLimitIntervalSec", read_span, FIELD(log_limit.interval_usec), "30s",
        "a span of time like 30s, or infinity", PROGRAMS },
    { "LogRateLimitBurst", read_count, FIELD(log_limit.burst), "1000",
        "a number from 1 to 1000000, or infinity", PROGRAMS },
    { "MemoryMax", read_size, FIELD(limits.memory_max), "infinity", "a size like 512M, or infinity",
        PROGRAMS },
    { "MemoryHigh", read_size, FIELD(limits.memory_high), "infinity", "a size like 512M, or infinity",
        PROGRAMS },
    { "TasksMax", read_count, FIELD(limits.tasks_max), "infinity", "a number from 1 to 1000000, or infinity",
        PROGRAMS },
    { "CPUWeight", read_weight, FIELD(limits.cpu_weight), "100", "a number from 1 to 10000", PROGRAMS },
    { "CPUQuota", read_percent, FIELD(limits.cpu_quota), "infinity", "a percentage like 50%, or infinity",
        PROGRAMS },
};

_Static_assert(ELEMENTS(keys) <= HANDLER_KEYS_MAX, "places[] of handler.c");

static int key_set(Handler *h, size_t i, const char *value) {
    return keys[i].read((char *) h + keys[i].offset, *value ? value : keys[i].value);
}

int handler_set_defaults(Handler *h) {
    int r = 0;

    for (size_t i = 0; i < ELEMENTS(keys) && r >= 0; i++)
        r = key_set(h, i, "");
    return r;
}

int handler_set(Handler *h, const char *key, const char *value, const char **ret_rule) {
    for (size_t i = 0; i < ELEMENTS(keys); i++) {
        if (!streq(keys[i].key, key))
            continue;
        int r = key_set(h, i, value);
        *ret_rule = keys[i].rule;
        return r == -ERANGE ? -EINVAL : r < 0 ? r : (int) i;
    }
    return -ENOENT;
}

const char *handler_key_modes(const Handler *h, size_t i, const char **ret_key) {
    *ret_key = keys[i].key;
    return keys[i].modes && !strstr(keys[i].modes, h->executor->name) ? keys[i].modes : NULL;
}

void handler_free_keys(Handler *h) {
    h->argv = config_list_free(h->argv);
    free(h->sql);
    free(h->role);
    free(h->database);
}
