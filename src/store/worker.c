/* SPDX-License-Identifier: MIT */
#include "store/worker.h"

#include <stdio.h>

#include "store/array.h"

#define LOCK_WAITS 40 /* in a grace period: those of a turn and its sign of life fit in a third of it */

/* The names of which this worker can take tasks now. */
static void names_literal(Buf *b, const WorkerInfo *w) {
    for (size_t i = 0; w->names && w->names[i]; i++)
        if (w->room[i] > 0)
            array_add(b, w->names[i]);
}

static void list_literal(Buf *b, char *const *list) {
    for (; list && *list; list++)
        array_add(b, *list);
}

int worker_register(Db *db, const WorkerInfo *w, DbCallback callback, void *userdata) {
    static const DbStatement statement = {
        .name = "register",
        .sql = "SELECT pgmill.register($1, $2, $3, $4, $5, make_interval(secs => $6), $7, $8, $9)",
        .params = 9,
    };
    _cleanup_(buf_done) Buf queues = {}, names = {};
    char pid[16], grace[32];

    (void) snprintf(pid, sizeof(pid), "%d", (int) getpid());
    (void) snprintf(grace, sizeof(grace), "%.3f", (double) w->grace_usec / 1e6);
    list_literal(&queues, w->queues);
    list_literal(&names, w->names);
    const char *params[] = { ID_TEXT(w->id), w->instance, w->host, pid, PGMILL_VERSION, grace,
        array_literal(&queues), array_literal(&names), w->identity };
    if (buf_error(&queues) < 0 || buf_error(&names) < 0)
        return -ENOMEM;
    return db_call(db, &statement, params, callback, userdata);
}

int worker_take_over(Db *db, Id worker, DbCallback callback, void *userdata) {
    static const DbStatement statement = {
        .name = "take_over", .sql = "SELECT moved, waiting FROM pgmill.take_over($1)", .params = 1
    };
    return db_call(db, &statement, (const char *[]){ ID_TEXT(worker) }, callback, userdata);
}

int worker_attach(Db *db, Id worker, DbCallback callback, void *userdata) {
    static const DbStatement statement = {
        .name = "attach", .sql = "SELECT pgmill.attach($1) FROM pgmill.end_former($1)", .params = 1
    };
    return db_call(db, &statement, (const char *[]){ ID_TEXT(worker) }, callback, userdata);
}

int worker_beat(Db *db, Id worker, DbCallback callback, void *userdata) {
    static const DbStatement statement = { .name = "beat", .sql = "SELECT pgmill.beat($1)", .params = 1 };
    return db_call(db, &statement, (const char *[]){ ID_TEXT(worker) }, callback, userdata);
}

int worker_session(Db *db, uint64_t grace_usec, DbCallback callback, void *userdata) {
    /* The server's side of keepalives: a host that vanished frees its lock within 5 s. */
    static const DbStatement statement = {
        .name = "worker_session",
        .sql =
            "SELECT pg_catalog.set_config(p.name, p.value, false) FROM (VALUES "
            "('tcp_keepalives_idle', '2'), ('tcp_keepalives_interval', '1'), ('tcp_keepalives_count', '2'), "
            "('tcp_user_timeout', '4000'), ('client_connection_check_interval', '500'), ('lock_timeout', $1)"
            ") p (name, value)",
        .params = 1,
    };
    const uint64_t msec = MIN(grace_usec / LOCK_WAITS, USEC_PER_SEC) / USEC_PER_MSEC;
    char lock_timeout[24];

    (void) snprintf(
        lock_timeout, sizeof(lock_timeout), "%ju", (uintmax_t) (grace_usec > 0 ? MAX(msec, UINT64_C(1)) : 0));
    return db_call(db, &statement, (const char *[]){ lock_timeout }, callback, userdata);
}

/* The order of pgmill.priority. */
static const char *const priorities[WORKER_PRIORITIES] = { "LOW", "MEDIUM", "HIGH", "CRITICAL" };

int worker_claim(Db *db, const WorkerInfo *w, const char *queue, unsigned slots,
    const ClaimPosition *position, DbCallback callback, void *userdata) {
    static const DbStatement statement = {
        .name = "claim",
        .sql = "SELECT id, claim_no, priority, due_at FROM pgmill.claim($1, $2, $3, $4, $5, $6, $7, $8)",
        .params = 8,
    };
    _cleanup_(buf_done) Buf names = {}, tries = {}, room = {}, due = {}, ids = {};
    char count[16];

    names_literal(&names, w);
    for (size_t i = 0; w->names[i]; i++)
        if (w->room[i] > 0) {
            array_addf(&tries, "%d", w->tries[i]);
            array_addf(&room, "%u", w->room[i]);
        }
    for (size_t i = 0; i < WORKER_PRIORITIES; i++) {
        array_add(&due, *position->due_at[i] ? position->due_at[i] : "-infinity");
        array_add(&ids, *position->id[i] ? position->id[i] : "00000000-0000-0000-0000-000000000000");
    }
    (void) snprintf(count, sizeof(count), "%u", slots);
    const char *params[] = { queue, ID_TEXT(w->id), array_literal(&names), array_literal(&tries),
        array_literal(&room), count, array_literal(&due), array_literal(&ids) };
    if (buf_error(&names) < 0 || buf_error(&tries) < 0 || buf_error(&room) < 0 || buf_error(&due) < 0 ||
        buf_error(&ids) < 0)
        return -ENOMEM;
    return db_call(db, &statement, params, callback, userdata);
}

/* Rows come in the order of the line within each priority, so the last one of each is the new position. */
void worker_position_advance(ClaimPosition *position, const DbRows *claimed) {
    for (size_t i = 0; i < db_rows(claimed); i++)
        for (size_t p = 0; p < WORKER_PRIORITIES; p++)
            if (streq(db_value(claimed, i, 2), priorities[p])) {
                (void) snprintf(
                    position->due_at[p], sizeof(position->due_at[p]), "%s", db_value(claimed, i, 3));
                (void) snprintf(position->id[p], sizeof(position->id[p]), "%s", db_value(claimed, i, 0));
            }
}

int worker_claimed_tasks(Db *db, Id worker, const char *known, DbCallback callback, void *userdata) {
    static const DbStatement statement = {
        .name = "claimed_tasks",
        .sql =
            "SELECT id, claim_no, queue, name, attempt, max_attempts, deferrals, timeout, payload, started "
            "FROM pgmill.claimed_tasks($1, $2)",
        .params = 2,
    };
    return db_send(db, &statement, (const char *[]){ ID_TEXT(worker), known }, callback, userdata);
}

int worker_open_payload(Db *db, Id worker, Id task, int64_t claim_no, DbCallback callback, void *userdata) {
    static const DbStatement statement = {
        .name = "open_payload", .sql = "SELECT pgmill.open_payload($1, $2, $3)", .params = 3
    };
    char id[ID_TEXT_SIZE], number[24];

    (void) snprintf(number, sizeof(number), "%jd", (intmax_t) claim_no);
    const char *params[] = { ID_TEXT(worker), id_format(task, id), number };
    return db_call(db, &statement, params, callback, userdata);
}

int worker_fetch_payload(Db *db, DbCallback callback, void *userdata) {
    static const DbStatement statement = {
        .name = "fetch_payload", .sql = "FETCH FROM pgmill_payload", .params = 0
    };
    return db_call(db, &statement, NULL, callback, userdata);
}

int worker_close_payload(Db *db) {
    static const DbStatement statement = {
        .name = "close_payload", .sql = "SELECT pgmill.close_payload()", .params = 0
    };
    return db_call(db, &statement, NULL, NULL, NULL);
}

static void add_known(Buf *b, int64_t value) {
    value < 0 ? array_add(b, NULL) : array_addf(b, "%jd", (intmax_t) value);
}

int worker_finish(
    Db *db, Id worker, const RunEnd *ends, size_t n, const char *ahead, DbCallback callback, void *userdata) {
    static const char *const outcomes[_RUN_OUTCOME_MAX] = {
        [RUN_COMPLETED] = "completed",
        [RUN_FAILED] = "failed",
        [RUN_RETRY] = "retry",
        [RUN_DEFERRED] = "deferred",
        [RUN_RETURNED] = "returned",
        [RUN_CANCELLED] = "cancelled",
        [RUN_SETTLED] = "settled",
    };
    static const DbStatement statement = {
        .name = "finish",
        .sql = "SELECT id, verdict FROM pgmill.finish($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        .params = 10,
    };
    enum { IDS, CLAIM_NOS, OUTCOMES, RESULTS, ERRORS, DELAYS, CPU_USECS, MEMORY_PEAKS, LISTS };
    Buf lists[LISTS] = {};
    const char *params[1 + LISTS + 1] = { ID_TEXT(worker), [1 + LISTS] = ahead };
    int r = 0;

    for (size_t i = 0; i < n; i++) {
        array_add(&lists[IDS], ID_TEXT(ends[i].id));
        array_addf(&lists[CLAIM_NOS], "%jd", (intmax_t) ends[i].claim_no);
        array_add(&lists[OUTCOMES], outcomes[ends[i].outcome]);
        array_add(&lists[RESULTS], ends[i].result);
        array_add(&lists[ERRORS], ends[i].error);
        ends[i].delay < 0 ? array_add(&lists[DELAYS], NULL)
                          : array_addf(&lists[DELAYS], "%.3f", ends[i].delay);
        add_known(&lists[CPU_USECS], ends[i].cpu_usec);
        add_known(&lists[MEMORY_PEAKS], ends[i].memory_peak);
    }
    for (size_t i = 0; i < LISTS; i++) {
        params[1 + i] = array_literal(&lists[i]);
        if (buf_error(&lists[i]) < 0)
            r = -ENOMEM;
    }
    if (r >= 0)
        r = db_send(db, &statement, params, callback, userdata);
    for (size_t i = 0; i < LISTS; i++)
        buf_done(&lists[i]);
    return r;
}

int worker_report(
    Db *db, Id worker, const WorkerReport *list, size_t n, DbCallback callback, void *userdata) {
    static const DbStatement statement = {
        .name = "report", .sql = "SELECT id, claim_no FROM pgmill.report($1, $2, $3, $4, $5)", .params = 5
    };
    _cleanup_(buf_done) Buf ids = {}, claim_nos = {}, progresses = {}, texts = {};

    for (size_t i = 0; i < n; i++) {
        array_add(&ids, ID_TEXT(list[i].id));
        array_addf(&claim_nos, "%jd", (intmax_t) list[i].claim_no);
        list[i].progress < 0 ? array_add(&progresses, NULL)
                             : array_addf(&progresses, "%.2f", list[i].progress);
        array_add(&texts, *list[i].status ? list[i].status : NULL);
    }
    const char *params[] = { ID_TEXT(worker), array_literal(&ids), array_literal(&claim_nos),
        array_literal(&progresses), array_literal(&texts) };
    if (buf_error(&ids) < 0 || buf_error(&claim_nos) < 0 || buf_error(&progresses) < 0 ||
        buf_error(&texts) < 0)
        return -ENOMEM;
    return db_call(db, &statement, params, callback, userdata);
}

int worker_orders(Db *db, Id worker, DbCallback callback, void *userdata) {
    static const DbStatement statement = { .name = "orders",
        .sql = "SELECT id, claim_no, cancel, pause, frozen FROM pgmill.orders($1)",
        .params = 1 };
    return db_send(db, &statement, (const char *[]){ ID_TEXT(worker) }, callback, userdata);
}

int worker_obey(Db *db, Id worker, const WorkerObeyed *list, size_t n) {
    static const DbStatement statement = {
        .name = "obey", .sql = "SELECT pgmill.obey($1, $2, $3, $4)", .params = 4
    };
    _cleanup_(buf_done) Buf ids = {}, claim_nos = {}, states = {};

    for (size_t i = 0; i < n; i++) {
        array_add(&ids, ID_TEXT(list[i].id));
        array_addf(&claim_nos, "%jd", (intmax_t) list[i].claim_no);
        array_add(&states, list[i].state);
    }
    const char *params[] = { ID_TEXT(worker), array_literal(&ids), array_literal(&claim_nos),
        array_literal(&states) };
    if (buf_error(&ids) < 0 || buf_error(&claim_nos) < 0 || buf_error(&states) < 0)
        return -ENOMEM;
    return db_call(db, &statement, params, NULL, NULL);
}

int worker_sleep(Db *db, const WorkerInfo *w, DbCallback callback, void *userdata) {
    static const DbStatement statement = {
        .name = "sleep", .sql = "SELECT pgmill.sleep($1, $2, $3)", .params = 3
    };
    _cleanup_(buf_done) Buf queues = {}, names = {};

    list_literal(&queues, w->queues);
    names_literal(&names, w);
    const char *params[] = { ID_TEXT(w->id), array_literal(&queues), array_literal(&names) };
    if (buf_error(&queues) < 0 || buf_error(&names) < 0)
        return -ENOMEM;
    return db_call(db, &statement, params, callback, userdata);
}

int worker_awake(Db *db, Id worker) {
    static const DbStatement statement = { .name = "awake", .sql = "SELECT pgmill.awake($1)", .params = 1 };

    return db_call(db, &statement, (const char *[]){ ID_TEXT(worker) }, NULL, NULL);
}

int worker_listen(Db *db, Id worker, DbCallback callback, void *userdata) {
    static const DbStatement statement = { .name = "listen", .sql = "SELECT pgmill.listen($1)", .params = 1 };

    return db_call(db, &statement, (const char *[]){ ID_TEXT(worker) }, callback, userdata);
}

int worker_serve(Db *db, const WorkerInfo *w, const char *resting, const char *reasons) {
    static const DbStatement statement = {
        .name = "serve", .sql = "SELECT pgmill.serve($1, $2, $3, $4)", .params = 4
    };
    _cleanup_(buf_done) Buf names = {};

    list_literal(&names, w->names);
    const char *params[] = { ID_TEXT(w->id), array_literal(&names), resting, reasons };
    return buf_error(&names) < 0 ? -ENOMEM : db_call(db, &statement, params, NULL, NULL);
}

int worker_drains(Db *db, Id worker) {
    static const DbStatement statement = { .name = "drain", .sql = "SELECT pgmill.drain($1)", .params = 1 };

    return db_call(db, &statement, (const char *[]){ ID_TEXT(worker) }, NULL, NULL);
}

int worker_count(Db *db, DbCallback callback, void *userdata) {
    static const DbStatement statement = {
        .name = "worker_count", .sql = "SELECT count(*) FROM pgmill.heartbeats WHERE NOT dead", .params = 0
    };
    return db_call(db, &statement, NULL, callback, userdata);
}

int worker_idle(Db *db, const WorkerInfo *w, DbCallback callback, void *userdata) {
    static const DbStatement statement = { .name = "idle", .sql = "SELECT pgmill.is_idle($1)", .params = 1 };
    _cleanup_(buf_done) Buf queues = {};

    list_literal(&queues, w->queues);
    const char *literal = array_literal(&queues);
    return buf_error(&queues) < 0 ? -ENOMEM : db_call(db, &statement, &literal, callback, userdata);
}

int worker_unserved(Db *db, DbCallback callback, void *userdata) {
    static const DbStatement statement = {
        .name = "unserved", .sql = "SELECT pgmill.unserved_queues()", .params = 0
    };
    return db_call(db, &statement, NULL, callback, userdata);
}

int worker_leave(Db *db, Id worker, DbCallback callback, void *userdata) {
    static const DbStatement statement = { .name = "leave", .sql = "SELECT pgmill.leave($1)", .params = 1 };
    return db_call(db, &statement, (const char *[]){ ID_TEXT(worker) }, callback, userdata);
}
