/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The task model, and one C function for each SQL function that submits, reads or steers tasks.
 * Every transition is decided by SQL; nothing here writes a state. Knows nothing of HTTP.
 */
#include <stdint.h>

#include "base/id.h"
#include "base/util.h"
#include "store/db.h"

typedef enum TaskPriority {
    TASK_PRIORITY_LOW,
    TASK_PRIORITY_MEDIUM,
    TASK_PRIORITY_HIGH,
    TASK_PRIORITY_CRITICAL,
    _TASK_PRIORITY_MAX,
    _TASK_PRIORITY_INVALID = -EINVAL,
} TaskPriority;

const char *task_priority_to_string(TaskPriority p);   /* "MEDIUM" */
TaskPriority task_priority_from_string(const char *s); /* any case; _TASK_PRIORITY_INVALID */

typedef enum TaskStatus {
    TASK_STATUS_SCHEDULED, /* not yet due */
    TASK_STATUS_AVAILABLE, /* waits for a worker */
    TASK_STATUS_RUNNING,
    TASK_STATUS_PAUSED,
    TASK_STATUS_RETRYABLE, /* waits for its backoff */
    TASK_STATUS_COMPLETED,
    TASK_STATUS_CANCELLED,
    TASK_STATUS_FAILED, /* attempts spent, or told not to retry */
    _TASK_STATUS_MAX,
    _TASK_STATUS_INVALID = -EINVAL,
} TaskStatus;

const char *task_status_to_string(TaskStatus s);
TaskStatus task_status_from_string(const char *s); /* any case; _TASK_STATUS_INVALID */
#define TASK_STATUS_NAMES "SCHEDULED, AVAILABLE, RUNNING, PAUSED, RETRYABLE, COMPLETED, CANCELLED, FAILED"
/* Adds those of a list with commas to an array literal (store/array.h). NULL, or the first word that is none: the caller
 * frees it. */
char *task_statuses_add(Buf *array, const char *list);
static inline bool task_status_is_end(TaskStatus s) {
    return s == TASK_STATUS_COMPLETED || s == TASK_STATUS_CANCELLED || s == TASK_STATUS_FAILED;
}

/* Names of tasks and queues: [A-Za-z0-9_][A-Za-z0-9_.-]{0,99}, the domain pgmill.label. */
bool task_label_valid(const char *s);
#define TASK_LABEL_RULE "1 to 100 letters, digits, '_', '.' or '-', the first none of '.' and '-'"

#define TASK_QUEUE_DEFAULT "default"
#define TASK_ATTEMPTS_MAX  1000
#define TASK_TAGS_MAX      20              /* tags of a task */
#define TASK_TAG_MAX       100             /* bytes of a tag */
#define TASK_UNIQUE_MAX    200             /* bytes of a unique_key; no control characters */
#define TASK_TIMEOUT_MAX   (366.0 * 86400) /* seconds */

/* A task to submit. Strings are owned. */
typedef struct TaskNew {
    Id id;       /* made by the submitter, so that sending it twice is harmless */
    char *queue; /* NULL: TASK_QUEUE_DEFAULT */
    char *name;
    char *payload; /* JSON text, byte for byte as the client wrote it */
    TaskPriority priority;
    char *scheduled_at;  /* as time_format() writes it; NULL: now */
    int max_attempts;    /* 0: the handler's */
    double timeout;      /* seconds; 0: the handler's */
    char **tags;         /* NULL-terminated; NULL: none */
    char *unique_key;    /* NULL: none */
    char *maker;         /* who brings the queue into being, if it is a new one; NULL: it needs no look */
    unsigned queues_max; /* that a maker may bring into being */
    char *warning;       /* known before it is stored; NULL: none */
} TaskNew;

TaskNew *task_new_free(TaskNew *t);
void task_new_freep(TaskNew **t);

/*
 * One transaction for n tasks. The callback comes once, after the durable commit: DB_OK all are stored (those
 * that a former sending had stored already included), with rows as of task_read_group(); DB_INVALID one of them was
 * refused and none is stored. Behind the columns: the warning, NULL if none of the tasks has a maker.
 * Then wakes sleeping workers, in a transaction of its own. Errors: -ENOTCONN, -ENOMEM.
 */
int task_submit_group(Db *db, TaskNew *const tasks[], size_t n, DbCallback callback, void *userdata);

/* Stores a task with a payload of so many bytes and takes it back, in one durable transaction: DB_OK, a submission
 * would be stored now. Errors as above. */
int task_rehearse(Db *db, size_t bytes, DbCallback callback, void *userdata);

/* Whose submission it is and what it says, so that it can be repeated. */
typedef struct TaskKey {
    const char *scope;   /* who asks: the token */
    const char *key;     /* as the client chose it */
    const char *request; /* SHA-256 of the body in hex */
} TaskKey;

/*
 * All or nothing: tasks that have a unique_key, or any under a key (NULL: none). On a session of its own, since it
 * may wait half a second for another's transaction: then DB_LOCKED, the same key or unique_key is in flight.
 * One row, sure once the callback has it: (verdict, ids, holder, first of the ids), then its TASK columns, all NULL if
 * it has been deleted since.
 * verdict: "stored", "same" (came before under this key), "other" (another request came before), "taken".
 * ids: JSON array of the ids, "same": of those of the first time; "taken": empty. holder: the unfinished task that
 * has the unique_key, NULL if it has just ended. places: JSON array of the elements, from 0, whose keys are taken; with skip
 * the others are stored, and in ids the holders stand for these.
 * Sending it twice is harmless. Then wakes like task_submit_group().
 */
int task_submit_keyed(Db *db, const TaskKey *key, TaskNew *const tasks[], size_t n, bool skip,
    DbCallback callback, void *userdata);

/* The next call in this group of statements waits no longer than 20 ms for a row that another session holds, then
 * DB_LOCKED: for a session that others wait for too. Errors as db_send(). */
int task_be_brief(Db *db);

/* Rows of TASK columns (below) for those of the ids that exist, in any order. Column 0 is the id. */
int task_read_group(Db *db, const Id ids[], size_t n, DbCallback callback, void *userdata);

/* What can be asked of a task. */
typedef enum TaskVerb {
    TASK_PAUSE,
    TASK_RESUME,
    TASK_CANCEL,
    TASK_RETRY,
} TaskVerb;

/* One row: verdict, then the TASK columns from 1 on (all NULL if there is no such task).
 * verdict (sql/functions/steer.sql): "done", "unknown", "ended"; "asked": its worker was told, and has yet to act;
 * retry: "running", or "taken", another task has its unique_key. DB_LOCKED: somebody holds it.
 * act: of this request; sending it twice does it once. */
int task_steer(Db *db, TaskVerb verb, Id id, Id act, DbCallback callback, void *userdata);

/* What one may wait for, above all when a worker has yet to act. */
typedef enum TaskGoal {
    TASK_GOAL_END,
    TASK_GOAL_PAUSED,
    TASK_GOAL_RESUMED,
} TaskGoal;

typedef enum TaskReach {
    TASK_NOT_YET,
    TASK_REACHED,
    TASK_MISSED, /* it will not come to that any more */
} TaskReach;

/* Whether a task that was read is there. asked: its paused_at is not NULL. */
TaskReach task_reach(TaskGoal goal, const char *status, bool asked);

/* One row: (whether the task exists, the tail of standard error of its last attempt that kept one, or NULL). */
int task_log(Db *db, Id id, DbCallback callback, void *userdata);

/* What to list; NULL: any. */
typedef struct TaskPage {
    const char *statuses; /* array_literal() of statuses in upper case */
    const char *queue, *name, *priority, *tag;
    const char *created_after, *created_before; /* as time_format() writes them; both exclusive */
    const char *before;                         /* `next` of the page before */
    unsigned limit;
} TaskPage;

/* Newest id first. Rows: column 0 is `next`, the same in each, NULL on the last page; then the SUMMARY columns, all
 * NULL in the one row of a page without tasks. A call looks at 20,000 tasks at most: a page may be short and
 * still have a next one. */
int task_list_page(Db *db, const TaskPage *page, DbCallback callback, void *userdata);

typedef struct TaskFilter {
    const char *statuses, *queue, *name; /* NULL: any. statuses: with commas between them, any case */
    unsigned limit;
} TaskFilter;

/* For client verbs, on a db_open() connection: newest first; rows of TASK columns. */
int task_list(Db *db, const TaskFilter *filter, DbRows **ret, char **ret_error);
int task_read(Db *db, Id id, DbRows **ret, char **ret_error);
/* One row with a text if no living worker takes such a task now, else none. */
int task_warning(Db *db, const TaskNew *task, DbRows **ret, char **ret_error);
int task_submit(Db *db, const TaskNew *task, DbOutcome *ret_outcome, char **ret_error);
int task_steer_wait(Db *db, TaskVerb verb, Id id, DbRows **ret, DbOutcome *ret_outcome,
    char **ret_error); /* as task_steer() */

/* One tick of a recurring submission; in µs since 1970. */
typedef struct TaskTick {
    const char *schedule;
    int64_t at, known; /* known: task_last_tick() */
} TaskTick;

/* The last tick that counted, on whichever host; 0: none has yet. */
int task_last_tick(Db *db, const char *schedule, int64_t *ret, char **ret_error);
/* Stores the task if this tick is later than any before. *ret_verdict, to be freed: "stored", "passed" (it came before),
 * "moved" (another one that is not known came before), "taken" (an unfinished task has the unique_key; the tick has
 * passed). */
int task_submit_tick(Db *db, const TaskNew *task, const TaskTick *tick, char **ret_verdict,
    DbOutcome *ret_outcome, char **ret_error);

/* How long tasks that ended are kept; UINT64_MAX: for ever. */
typedef struct TaskRetention {
    uint64_t completed_usec, cancelled_usec, failed_usec;
} TaskRetention;

/* Forgets what ended longer ago, in transactions of a thousand tasks. *ret_gone: how many. */
int task_prune(Db *db, const TaskRetention *retention, uint64_t *ret_gone, char **ret_error);

/*
 * Writes one row of TASK columns, beginning at column `first`, as a JSON object, the shape that REST and the
 * command line show: payload and result are the database's own text, times RFC 3339 in UTC with Z.
 */
void task_row_json(const DbRows *rows, size_t row, unsigned first, Buf *b);
/* The same for SUMMARY columns: TASK columns without payload, result and errors. */
void task_summary_json(const DbRows *rows, size_t row, unsigned first, Buf *b);
/* What stands behind such a row's TASK columns: of submissions the warning, of keyed ones the JSON array of all. */
const char *task_row_behind(const DbRows *rows, size_t row, unsigned first, unsigned n);
/* The text of one field of such a row by name ("status"), NULL for SQL NULL. */
const char *task_row_value(const DbRows *rows, size_t row, unsigned first, const char *field);
