/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A worker's calls: one C function for each SQL function of sql/functions/{workers,claim,finish}.sql.
 */
#include "base/id.h"
#include "base/util.h"
#include "store/db.h"

typedef struct WorkerInfo {
    Id id; /* one for each life of the process */
    const char *instance, *host;
    const char *identity; /* of the unit on its host, NULL: it cannot tell what is left of a former life */
    uint64_t grace_usec;
    char *const *queues, *const *names; /* what it takes; names in the order of tries */
    const int *tries;                   /* each name's max_attempts */
    const unsigned *room; /* how many of each it can take now; claim and sleep leave out names with 0 */
} WorkerInfo;

/* Takes the session lock. Nothing to read in the reply but its outcome. */
int worker_register(Db *db, const WorkerInfo *w, DbCallback callback, void *userdata);

/* Gives the tasks of former lives of this unit back at once; the caller has seen that nothing of them is left. One row:
 * how many tasks were moved, and how many former lives are not done with: ask again. */
int worker_take_over(Db *db, Id worker, DbCallback callback, void *userdata);

/* This session takes over from the worker's former one. One row: boolean, false: it was given up. */
int worker_attach(Db *db, Id worker, DbCallback callback, void *userdata);

/* One row: boolean, true: a sign of life was given, for which no task was looked at. A group of its own. */
int worker_beat(Db *db, Id worker, DbCallback callback, void *userdata);

/* The server lets go of a session whose client's host has vanished, and no statement waits long for a lock, since all
 * others, signs of life among them, wait behind it. grace_usec 0: it waits as long as it takes. */
int worker_session(Db *db, uint64_t grace_usec, DbCallback callback, void *userdata);

/* The position a scan of a queue goes on from: of the last row taken, per priority. */
#define WORKER_PRIORITIES 4
typedef struct ClaimPosition {
    char due_at[WORKER_PRIORITIES][40]; /* "" : from the start */
    char id[WORKER_PRIORITIES][ID_TEXT_SIZE];
} ClaimPosition;

/* A group of its own (asynchronous commit). Rows for worker_position_advance(); they prove nothing yet. */
int worker_claim(Db *db, const WorkerInfo *w, const char *queue, unsigned slots,
    const ClaimPosition *position, DbCallback callback, void *userdata);
void worker_position_advance(ClaimPosition *position, const DbRows *claimed);

/* What the worker holds beside the ones named in known (ended with array_literal()). Not a group: send more. */
int worker_claimed_tasks(Db *db, Id worker, const char *known, DbCallback callback, void *userdata);
enum {
    CLAIMED_ID,
    CLAIMED_NO,
    CLAIMED_QUEUE,
    CLAIMED_NAME,
    CLAIMED_ATTEMPT,
    CLAIMED_MAX_ATTEMPTS,
    CLAIMED_DEFERRALS,
    CLAIMED_TIMEOUT,
    CLAIMED_PAYLOAD,
    CLAIMED_STARTED
};

/* A payload that did not come with the claim, one at a time in a session; each a group of its own. */
/* One row: boolean, false: the task is no longer this worker's. */
int worker_open_payload(Db *db, Id worker, Id task, int64_t claim_no, DbCallback callback, void *userdata);
/* Of the one that was opened. One row: the next part, in hexadecimal, and the bytes of all of it. */
int worker_fetch_payload(Db *db, DbCallback callback, void *userdata);
int worker_close_payload(Db *db);

/* How a run ended. */
typedef enum RunOutcome {
    RUN_COMPLETED,
    RUN_FAILED,    /* must not be tried again */
    RUN_RETRY,     /* again while attempts are left */
    RUN_DEFERRED,  /* again, not counted */
    RUN_RETURNED,  /* back in line, not counted, as if it had never begun */
    RUN_CANCELLED, /* ended because somebody asked for that */
    RUN_SETTLED,   /* its own transaction wrote its end: no longer held, nothing to write */
    _RUN_OUTCOME_MAX,
} RunOutcome;

typedef struct RunEnd {
    Id id;
    int64_t claim_no;
    RunOutcome outcome;
    const char *result;            /* JSON text or NULL */
    const char *error;             /* JSON text of an object or NULL */
    int64_t cpu_usec, memory_peak; /* bytes; < 0: not known */
    double delay;                  /* seconds until it is due again; < 0: keeps its place */
} RunEnd;

/* Ends runs and gives a sign of life. ahead: an array literal of tasks that have not begun, and will not before the next
 * call. Rows (id, verdict: "done", "refused", "locked"); the last statement of a
 * group: db_sync() is the caller's, and its callback proves claims and ends. */
int worker_finish(
    Db *db, Id worker, const RunEnd *ends, size_t n, const char *ahead, DbCallback callback, void *userdata);

/* What a running task says of itself. */
typedef struct WorkerReport {
    Id id;
    int64_t claim_no;
    double progress;    /* 0 to 100; < 0: nothing */
    const char *status; /* "": nothing */
} WorkerReport;

/* A group of its own, whose commit waits for no disk. Rows (id, claim_no) of those that somebody holds: to be sent
 * again. */
int worker_report(Db *db, Id worker, const WorkerReport *list, size_t n, DbCallback callback, void *userdata);

/* Rows for those of the worker's running tasks of which somebody has asked something. A notification "orders" says that
 * there is a new one. Not a group: db_sync() is the caller's. */
enum { ORDER_ID, ORDER_CLAIM_NO, ORDER_CANCEL, ORDER_PAUSE, ORDER_FROZEN };
int worker_orders(Db *db, Id worker, DbCallback callback, void *userdata);

/* What the worker has done of it. state: "frozen", "thawed", "unable". A group of its own; what could not be written
 * shows in the next orders. */
typedef struct WorkerObeyed {
    Id id;
    int64_t claim_no;
    const char *state;
} WorkerObeyed;
int worker_obey(Db *db, Id worker, const WorkerObeyed *list, size_t n);

/* One row: seconds until the next task is due, NULL when none is known. The worker is now told of new tasks by a
 * notification on worker_channel(). */
int worker_sleep(Db *db, const WorkerInfo *w, DbCallback callback, void *userdata);
int worker_awake(Db *db, Id worker);
int worker_listen(Db *db, Id worker, DbCallback callback, void *userdata);

/* The names it takes now, whatever room it has for them; and as array literals in parallel those of them whose programs
 * cannot begin there, and why. A group of its own. */
int worker_serve(Db *db, const WorkerInfo *w, const char *resting, const char *reasons);
/* It takes no more, and does not sleep. */
int worker_drains(Db *db, Id worker);

/* One row: how many workers live. */
int worker_count(Db *db, DbCallback callback, void *userdata);

/* One row: boolean: these queues hold no task that could need a worker, and no worker is dead. */
int worker_idle(Db *db, const WorkerInfo *w, DbCallback callback, void *userdata);

/* One row: an array literal, sorted: queues where tasks wait and that no living worker serves. */
int worker_unserved(Db *db, DbCallback callback, void *userdata);

/* One row: boolean, false: a task is still its own. */
int worker_leave(Db *db, Id worker, DbCallback callback, void *userdata);
