/* SPDX-License-Identifier: MIT */
#include "store/task.h"

#include <stdio.h>
#include <strings.h>

#include "base/json.h"
#include "base/time.h"
#include "store/array.h"

static const char *const priority_names[_TASK_PRIORITY_MAX] = {
    [TASK_PRIORITY_LOW] = "LOW",
    [TASK_PRIORITY_MEDIUM] = "MEDIUM",
    [TASK_PRIORITY_HIGH] = "HIGH",
    [TASK_PRIORITY_CRITICAL] = "CRITICAL",
};

static const char *const status_names[_TASK_STATUS_MAX] = {
    [TASK_STATUS_SCHEDULED] = "SCHEDULED",
    [TASK_STATUS_AVAILABLE] = "AVAILABLE",
    [TASK_STATUS_RUNNING] = "RUNNING",
    [TASK_STATUS_PAUSED] = "PAUSED",
    [TASK_STATUS_RETRYABLE] = "RETRYABLE",
    [TASK_STATUS_COMPLETED] = "COMPLETED",
    [TASK_STATUS_CANCELLED] = "CANCELLED",
    [TASK_STATUS_FAILED] = "FAILED",
};

static int name_index(const char *const names[], size_t n, const char *s) {
    for (size_t i = 0; i < n; i++)
        if (strcasecmp(names[i], s) == 0)
            return (int) i;
    return -EINVAL;
}

const char *task_priority_to_string(TaskPriority p) {
    return priority_names[p];
}

TaskPriority task_priority_from_string(const char *s) {
    return (TaskPriority) name_index(priority_names, ELEMENTS(priority_names), s);
}

const char *task_status_to_string(TaskStatus s) {
    return status_names[s];
}

TaskStatus task_status_from_string(const char *s) {
    return (TaskStatus) name_index(status_names, ELEMENTS(status_names), s);
}

char *task_statuses_add(Buf *array, const char *list) {
    for (const char *word = list;; word++) {
        char *copy = strndup(word, strcspn(word, ","));
        TaskStatus status = copy ? task_status_from_string(copy) : _TASK_STATUS_INVALID;
        if (!copy)
            array->failed = true;
        else if (status < 0)
            return copy;
        else
            array_add(array, task_status_to_string(status));
        free(copy);
        word += strcspn(word, ",");
        if (!copy || !*word)
            return NULL;
    }
}

bool task_label_valid(const char *s) {
    static const char first[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_";
    static const char rest[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
    size_t n = strlen(s);

    return n >= 1 && n <= 100 && strspn(s, first) > 0 && strspn(s, rest) == n;
}

TaskNew *task_new_free(TaskNew *t) {
    if (!t)
        return NULL;
    for (char **tag = t->tags; tag && *tag; tag++)
        free(*tag);
    free(t->tags);
    free(t->queue);
    free(t->name);
    free(t->payload);
    free(t->scheduled_at);
    free(t->unique_key);
    free(t->maker);
    free(t->warning);
    free(t);
    return NULL;
}

void task_new_freep(TaskNew **t) {
    task_new_free(*t);
}

/* ---- the shape of a task ---- */

typedef enum ColumnKind {
    COLUMN_TEXT,
    COLUMN_TIME, /* "2023-10-01 10:00:00.5+00" */
    COLUMN_RAW,  /* JSON already: numbers, jsonb */
    COLUMN_LIST, /* a JSON array, by to_json() */
} ColumnKind;

/* In the order of TASK_COLUMNS; SUMMARY_COLUMNS lack the large ones. */
static const struct {
    const char *name;
    ColumnKind kind;
    bool large;
} columns[] = {
    { "id", COLUMN_TEXT },
    { "queue", COLUMN_TEXT },
    { "name", COLUMN_TEXT },
    { "status", COLUMN_TEXT },
    { "priority", COLUMN_TEXT },
    { "payload", COLUMN_RAW, .large = true },
    { "tags", COLUMN_LIST },
    { "unique_key", COLUMN_TEXT },
    { "scheduled_at", COLUMN_TIME },
    { "created_at", COLUMN_TIME },
    { "started_at", COLUMN_TIME },
    { "finished_at", COLUMN_TIME },
    { "paused_at", COLUMN_TIME },
    { "attempt", COLUMN_RAW },
    { "max_attempts", COLUMN_RAW },
    { "timeout", COLUMN_RAW },
    { "worker", COLUMN_TEXT },
    { "cpu_usec", COLUMN_RAW },
    { "memory_peak", COLUMN_RAW },
    { "progress", COLUMN_RAW },
    { "status_text", COLUMN_TEXT },
    { "result", COLUMN_RAW, .large = true },
    { "result_note", COLUMN_TEXT },
    { "error", COLUMN_TEXT },
    { "errors", COLUMN_RAW, .large = true },
};

#define TASK_COLUMNS                                                                                     \
    "id, queue, name, status, priority, payload, to_json(tags), unique_key, scheduled_at, "              \
    "created_at, started_at, finished_at, paused_at, attempt, max_attempts, timeout, worker, cpu_usec, " \
    "memory_peak, progress, status_text, result, result_note, "                                          \
    "error, errors"
#define SUMMARY_COLUMNS                                                                                   \
    "id, queue, name, status, priority, to_json(tags), unique_key, scheduled_at, created_at, "            \
    "started_at, finished_at, paused_at, attempt, max_attempts, timeout, worker, cpu_usec, memory_peak, " \
    "progress, status_text, result_note, error"

/* "2023-10-01 10:00:00.5+00" → "2023-10-01T10:00:00.5Z": sessions have TimeZone UTC. */
static void write_time(Buf *b, const char *value) {
    size_t n = strlen(value);

    if (n < 11)
        return json_write_string(b, value, n); /* infinity */
    if (n > 3 && streq(value + n - 3, "+00"))
        n -= 3;
    buf_putc(b, '"');
    buf_add(b, value, 10);
    buf_putc(b, 'T');
    buf_add(b, value + 11, n - 11);
    buf_puts(b, "Z\"");
}

static void write_value(const DbRows *rows, size_t row, unsigned column, ColumnKind kind, Buf *b) {
    const char *value = db_value(rows, row, column);

    if (!value)
        buf_puts(b, "null");
    else if (kind == COLUMN_TEXT)
        json_write_string(b, value, db_length(rows, row, column));
    else if (kind == COLUMN_TIME)
        write_time(b, value);
    else
        buf_add(b, value, db_length(rows, row, column));
}

static void write_row(const DbRows *rows, size_t row, unsigned column, bool large, Buf *b) {
    for (unsigned i = 0; i < ELEMENTS(columns); i++) {
        if (columns[i].large && !large)
            continue;
        buf_puts(b, i == 0 ? "{\"" : ", \"");
        buf_puts(b, columns[i].name);
        buf_puts(b, "\": ");
        write_value(rows, row, column++, columns[i].kind, b);
    }
    buf_putc(b, '}');
}

void task_row_json(const DbRows *rows, size_t row, unsigned first, Buf *b) {
    write_row(rows, row, first, true, b);
}

void task_summary_json(const DbRows *rows, size_t row, unsigned first, Buf *b) {
    write_row(rows, row, first, false, b);
}

const char *task_row_behind(const DbRows *rows, size_t row, unsigned first, unsigned n) {
    return db_value(rows, row, first + ELEMENTS(columns) + n);
}

const char *task_row_value(const DbRows *rows, size_t row, unsigned first, const char *field) {
    for (unsigned i = 0; i < ELEMENTS(columns); i++)
        if (streq(columns[i].name, field))
            return db_value(rows, row, first + i);
    return NULL;
}

/* ---- submit ---- */

/* Every submission has the first of them; where a client's queue may be a new one, the rest too. */
enum { TASK_PARAMS = 10, SUBMIT_PARAMS = TASK_PARAMS + 2 };

static const DbStatement wake = { .name = "wake", .sql = "SELECT pgmill.wake($1, $2)", .params = 2 };

static void params_done(Buf params[static SUBMIT_PARAMS]) {
    for (size_t i = 0; i < SUBMIT_PARAMS; i++)
        buf_done(&params[i]);
}

static int tags_add(Buf *b, char *const tags[]) {
    Buf list = {};

    for (; tags && *tags; tags++)
        array_add(&list, *tags);
    array_add(b, array_literal(&list));
    int r = buf_error(&list);
    buf_done(&list);
    return r;
}

static int task_add(Buf p[static SUBMIT_PARAMS], const TaskNew *t) {
    array_add(&p[0], ID_TEXT(t->id));
    array_add(&p[1], t->queue ? t->queue : TASK_QUEUE_DEFAULT);
    array_add(&p[2], t->name);
    array_add(&p[3], t->payload);
    array_add(&p[4], task_priority_to_string(t->priority));
    array_add(&p[5], t->scheduled_at);
    t->max_attempts > 0 ? array_addf(&p[6], "%d", t->max_attempts) : array_add(&p[6], NULL);
    t->timeout > 0 ? array_addf(&p[7], "%.6f", t->timeout) : array_add(&p[7], NULL);
    array_add(&p[9], t->unique_key);
    array_add(&p[10], t->maker);
    t->maker ? array_addf(&p[11], "%u", t->queues_max) : array_add(&p[11], NULL);
    return tags_add(&p[8], t->tags);
}

/* The parameters of one submit_group call. Fills literals[]; they live as long as p[]. */
static int submit_params(TaskNew *const tasks[], size_t n, Buf p[static SUBMIT_PARAMS],
    const char *literals[static SUBMIT_PARAMS]) {
    for (size_t i = 0; i < n; i++) {
        int r = task_add(p, tasks[i]);
        if (r < 0)
            return r;
    }
    for (size_t i = 0; i < SUBMIT_PARAMS; i++) {
        literals[i] = array_literal(&p[i]);
        if (buf_error(&p[i]) < 0)
            return -ENOMEM;
    }
    return 0;
}

/* After the commit, and in a transaction of its own: sleepers are told of rows that they can see. */
static void submit_wake(Db *db, const char *const literals[static SUBMIT_PARAMS]) {
    if (db_send(db, &wake, literals + 1, NULL, NULL) >= 0)
        (void) db_sync(db, NULL, NULL);
}

int task_rehearse(Db *db, size_t bytes, DbCallback callback, void *userdata) {
    static const DbStatement statement = {
        .name = "rehearse", .sql = "SELECT pgmill.rehearse($1)", .params = 1
    };
    char size[24];

    (void) snprintf(size, sizeof(size), "%zu", bytes);
    return db_call(db, &statement, (const char *[]){ size }, callback, userdata);
}

/* The second function is given the first one's result only so that it runs after it. */
#define SUBMIT_GROUP(warning, new_queues, more)                                            \
    "SELECT " TASK_COLUMNS ", " warning                                                    \
    " FROM (SELECT pgmill.submit_group($1, $2, $3, $4, $5, $6, $7, $8, $9, $10" new_queues \
    ")::text AS done) s "                                                                  \
    "CROSS JOIN LATERAL pgmill.read_group($1, s.done) " more

int task_submit_group(Db *db, TaskNew *const tasks[], size_t n, DbCallback callback, void *userdata) {
    static const DbStatement known = {
        .name = "submit_group", .sql = SUBMIT_GROUP("NULL", "", ""), .params = TASK_PARAMS
    };
    static const DbStatement unknown = {
        .name = "submit_unknown",
        .sql = SUBMIT_GROUP("warning", ", $11, $12", "LEFT JOIN pgmill.warnings($2, $3) USING (queue, name)"),
        .params = SUBMIT_PARAMS,
    };
    const DbStatement *statement = &known;
    Buf p[SUBMIT_PARAMS] = {};
    const char *literals[SUBMIT_PARAMS];

    for (size_t i = 0; i < n; i++)
        if (tasks[i]->maker)
            statement = &unknown;
    int r = submit_params(tasks, n, p, literals);
    if (r >= 0)
        r = db_call(db, statement, literals, callback, userdata);
    if (r >= 0)
        submit_wake(db, literals);
    params_done(p);
    return r;
}

int task_submit_keyed(Db *db, const TaskKey *key, TaskNew *const tasks[], size_t n, bool skip,
    DbCallback callback, void *userdata) {
    static const DbStatement statement = {
        .name = "submit_keyed",
        .sql = "SELECT verdict, to_json(stored), holder, to_json(places), stored[1], " TASK_COLUMNS
               ", list[1], to_json(list) "
               "FROM pgmill.submit_keyed("
               "$1, $2, decode($3, 'hex'), $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $16, $14, $15) k "
               "LEFT JOIN LATERAL pgmill.read(k.stored[1], k.verdict) ON true "
               "CROSS JOIN (SELECT array_agg(w.warning) AS list "
               "FROM (SELECT warning FROM pgmill.warnings($5, $6) LIMIT 10) w) w",
        .params = 3 + SUBMIT_PARAMS + 1,
    };
    Buf p[SUBMIT_PARAMS] = {};
    const char *params[3 + SUBMIT_PARAMS + 1] = { [3 + SUBMIT_PARAMS] = skip ? "t" : "f" };

    if (key)
        memcpy(params, (const char *[]){ key->scope, key->key, key->request }, 3 * sizeof(params[0]));
    int r = submit_params(tasks, n, p, params + 3);
    if (r >= 0)
        r = db_call(db, &statement, params, callback, userdata);
    if (r >= 0)
        submit_wake(db, params + 3);
    params_done(p);
    return r;
}

int task_submit(Db *db, const TaskNew *task, DbOutcome *ret_outcome, char **ret_error) {
    static const DbStatement statement = {
        .name = "submit",
        .sql =
            "SELECT pgmill.submit(id => ($1::uuid[])[1], queue => ($2::text[])[1], name => ($3::text[])[1], "
            "payload => ($4::jsonb[])[1], priority => ($5::pgmill.priority[])[1], "
            "scheduled_at => ($6::timestamptz[])[1], max_attempts => ($7::int[])[1], "
            "timeout => make_interval(secs => ($8::float8[])[1]), tags => ($9::text[])[1]::text[], "
            "unique_key => ($10::text[])[1])",
        .params = TASK_PARAMS,
    };
    TaskNew *const tasks[] = { (TaskNew *) task };
    Buf p[SUBMIT_PARAMS] = {};
    const char *literals[SUBMIT_PARAMS];

    int r = submit_params(tasks, 1, p, literals);
    if (r >= 0)
        r = db_query(db, &statement, literals, NULL, ret_outcome, ret_error);
    params_done(p);
    return r;
}

int task_warning(Db *db, const TaskNew *task, DbRows **ret, char **ret_error) {
    static const DbStatement statement = {
        .name = "warnings", .sql = "SELECT warning FROM pgmill.warnings(ARRAY[$1], ARRAY[$2])", .params = 2
    };
    return db_query(db, &statement,
        (const char *[]){ task->queue ? task->queue : TASK_QUEUE_DEFAULT, task->name }, ret, NULL, ret_error);
}

int task_last_tick(Db *db, const char *schedule, int64_t *ret, char **ret_error) {
    static const DbStatement statement = { .name = "last_tick",
        .sql = "SELECT coalesce(max((extract(epoch FROM last_tick) * 1000000)::bigint), 0) "
               "FROM pgmill.schedules WHERE name = $1",
        .params = 1 };
    _cleanup_(db_rows_freep) DbRows *rows = NULL;

    int r = db_query(db, &statement, &schedule, &rows, NULL, ret_error);
    if (r >= 0)
        *ret = db_int(rows, 0, 0);
    return r;
}

int task_submit_tick(Db *db, const TaskNew *task, const TaskTick *tick, char **ret_verdict,
    DbOutcome *ret_outcome, char **ret_error) {
    static const DbStatement statement = {
        .name = "submit_tick",
        .sql = "SELECT pgmill.submit_tick($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        .params = 3 + TASK_PARAMS,
    };
    TaskNew *const tasks[] = { (TaskNew *) task };
    _cleanup_(db_rows_freep) DbRows *rows = NULL;
    Buf p[SUBMIT_PARAMS] = {};
    char at[TIME_TEXT_SIZE], known[TIME_TEXT_SIZE];
    const char *params[3 + SUBMIT_PARAMS] = { tick->schedule, time_format(tick->at, at),
        tick->known ? time_format(tick->known, known) : NULL };

    int r = submit_params(tasks, 1, p, params + 3);
    if (r >= 0)
        r = db_query(db, &statement, params, &rows, ret_outcome, ret_error);
    if (r >= 0)
        r = string_replace(ret_verdict, db_value(rows, 0, 0));
    if (r >= 0 && streq(*ret_verdict, "stored"))
        r = db_query(db, &wake, params + 4, NULL, ret_outcome, ret_error);
    params_done(p);
    return r;
}

/* ---- read and steer ---- */

int task_be_brief(Db *db) {
    static const DbStatement statement = {
        .name = "be_brief", .sql = "SELECT set_config('pgmill.patience', '20ms', true)", .params = 0
    };
    return db_send(db, &statement, NULL, NULL, NULL);
}

int task_read_group(Db *db, const Id ids[], size_t n, DbCallback callback, void *userdata) {
    static const DbStatement statement = {
        .name = "read_group",
        .sql = "SELECT " TASK_COLUMNS " FROM pgmill.read_group($1)",
        .params = 1,
    };
    Buf list = {};

    for (size_t i = 0; i < n; i++)
        array_add(&list, ID_TEXT(ids[i]));
    const char *literal = array_literal(&list);
    int r = buf_error(&list);
    if (r >= 0)
        r = db_call(db, &statement, &literal, callback, userdata);
    buf_done(&list);
    return r;
}

/* As with task_submit_group(): what was done, then what is there. */
#define STEER(verb)                                                                    \
    "SELECT verdict, " TASK_COLUMNS " FROM (SELECT pgmill." verb "($1) AS verdict) v " \
    "LEFT JOIN LATERAL pgmill.read($1, verdict) ON true"

static const DbStatement steer[] = {
    [TASK_PAUSE] = { "pause", STEER("pause"), 1 },
    [TASK_RESUME] = { "resume", STEER("resume"), 1 },
    [TASK_CANCEL] = { "cancel", STEER("cancel"), 1 },
    [TASK_RETRY] = { "retry", STEER("retry"), 1 },
};

int task_steer(Db *db, TaskVerb verb, Id id, Id act, DbCallback callback, void *userdata) {
    static const DbStatement statement = {
        .name = "steer",
        .sql = "SELECT verdict, " TASK_COLUMNS " FROM (SELECT pgmill.steer($2, $1, $3) AS verdict) v "
               "LEFT JOIN LATERAL pgmill.read($1, verdict) ON true",
        .params = 3,
    };

    return db_call(
        db, &statement, (const char *[]){ ID_TEXT(id), steer[verb].name, ID_TEXT(act) }, callback, userdata);
}

int task_steer_wait(Db *db, TaskVerb verb, Id id, DbRows **ret, DbOutcome *ret_outcome, char **ret_error) {
    return db_query(db, &steer[verb], (const char *[]){ ID_TEXT(id) }, ret, ret_outcome, ret_error);
}

TaskReach task_reach(TaskGoal goal, const char *status, bool asked) {
    TaskStatus now = task_status_from_string(status);

    switch (goal) {
    case TASK_GOAL_PAUSED:
        return now == TASK_STATUS_PAUSED             ? TASK_REACHED
               : now == TASK_STATUS_RUNNING && asked ? TASK_NOT_YET
                                                     : TASK_MISSED;
    case TASK_GOAL_RESUMED:
        return now == TASK_STATUS_PAUSED ? TASK_NOT_YET : TASK_REACHED;
    default:
        return task_status_is_end(now) ? TASK_REACHED : TASK_NOT_YET;
    }
}

int task_log(Db *db, Id id, DbCallback callback, void *userdata) {
    static const DbStatement statement = {
        .name = "log", .sql = "SELECT known, text FROM pgmill.log($1)", .params = 1
    };
    return db_call(db, &statement, (const char *[]){ ID_TEXT(id) }, callback, userdata);
}

int task_list_page(Db *db, const TaskPage *page, DbCallback callback, void *userdata) {
    static const DbStatement statement = {
        .name = "list_page",
        .sql = "SELECT next, " SUMMARY_COLUMNS " FROM pgmill.list($1, $2, $3, $4, $5, $6, $7, $8, $9) l "
               "LEFT JOIN LATERAL (SELECT * FROM pgmill.task t WHERE t.id = l.id LIMIT 1) t USING (id) ORDER "
               "BY id DESC",
        .params = 9,
    };
    char limit[16];

    (void) snprintf(limit, sizeof(limit), "%u", page->limit);
    return db_call(db, &statement,
        (const char *[]){ page->statuses, page->queue, page->name, page->priority, page->tag,
            page->created_after, page->created_before, page->before, limit },
        callback, userdata);
}

int task_read(Db *db, Id id, DbRows **ret, char **ret_error) {
    static const DbStatement statement = {
        .name = "read", .sql = "SELECT " TASK_COLUMNS " FROM pgmill.task WHERE id = $1", .params = 1
    };
    return db_query(db, &statement, (const char *[]){ ID_TEXT(id) }, ret, NULL, ret_error);
}

int task_list(Db *db, const TaskFilter *filter, DbRows **ret, char **ret_error) {
    static const DbStatement statement = {
        .name = "list",
        .sql = "SELECT " TASK_COLUMNS
               " FROM pgmill.list(string_to_array(upper($1), ','), $2, $3, NULL, NULL, NULL, NULL, NULL, $4, "
               "'1 day') l (next, task) CROSS JOIN LATERAL (SELECT * FROM pgmill.task t WHERE t.id = l.task "
               "LIMIT 1) t ORDER BY id DESC",
        .params = 4,
    };
    char limit[16];

    (void) snprintf(limit, sizeof(limit), "%u", filter->limit);
    return db_query(db, &statement, (const char *[]){ filter->statuses, filter->queue, filter->name, limit },
        ret, NULL, ret_error);
}
