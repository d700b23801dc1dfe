/* SPDX-License-Identifier: MIT */
/*
 * Payloads that are too large to come with a claim: fetched when their task has a slot, one after the other and part by
 * part, so that neither the session nor the memory is taken up by them. All that are here share a budget; one that is larger
 * than that is fetched when it is alone.
 */
#include "base/log.h"
#include "worker/core.h"

/* Bytes of one that was fetched, from its first part to its end: what reads it keeps it. */
static size_t taken(const Run *run) {
    return run->state < RUN_ENDED && run->payload.size > 0 ? run->payload_size : 0;
}

static bool fits(const Worker *w, const Run *run) {
    size_t others = 0;

    for (size_t i = 0; i < w->n_runs; i++)
        others += w->runs[i] != run ? taken(w->runs[i]) : 0;
    return others == 0 || others + run->payload_size <= w->config.payload_memory;
}

static Run *next(const Worker *w) {
    for (size_t i = 0; i < w->n_runs; i++)
        if (w->runs[i]->state == RUN_FETCHING)
            return w->runs[i];
    return NULL;
}

/* Of which a part was asked for; NULL: it waits no more. */
static Run *asked(const Worker *w) {
    Run *run = runs_find(w, w->fetched_id, w->fetched_no);

    return run && run->state == RUN_FETCHING ? run : NULL;
}

/* It begins anew with the next turn. */
static void failed(Worker *w, const DbReply *reply) {
    Run *run = asked(w);

    w->fetch_session = 0;
    if (!run)
        return;
    payload_done(&run->payload);
    if (reply->outcome == DB_LOST)
        return;
    const LogTask task = run_log_task(run);
    log_event(LOG_WARNING, NULL, &task, "Cannot fetch its payload: %s", reply->message);
}

static void on_part(_unused_ Db *db, const DbReply *reply, void *userdata) {
    Worker *w = userdata;
    Run *run = asked(w);

    w->fetching = false;
    if (reply->outcome != DB_OK || db_rows(reply->rows) == 0) {
        failed(w, reply);
        return;
    }
    if (run) {
        run->payload_size = (size_t) db_int(reply->rows, 0, 1);
        payload_add(
            &run->payload, db_value(reply->rows, 0, 0), db_length(reply->rows, 0, 0), run->payload_size);
        if (run->payload.whole)
            runs_begin(w, run);
    }
    fetch_want(w);
}

static void on_opened(_unused_ Db *db, const DbReply *reply, void *userdata) {
    Worker *w = userdata;
    Run *run = asked(w);

    w->fetching = false;
    if (reply->outcome != DB_OK) {
        failed(w, reply);
        return;
    }
    if (run && !db_bool(reply->rows, 0, 0)) /* the fence: it is somebody else's */
        run_return(run);
    fetch_want(w);
}

static void open_next(Worker *w, Run *run) {
    payload_done(&run->payload);
    w->fetched_id = run->id;
    w->fetched_no = run->claim_no;
    w->fetch_session = db_backend_pid(w->db);
    w->fetching = worker_open_payload(w->db, w->info.id, run->id, run->claim_no, on_opened, w) >= 0;
}

void fetch_want(Worker *w) {
    if (!w->session || w->fetching)
        return;
    Run *run = next(w);
    if (!run) {
        if (w->fetch_session == db_backend_pid(w->db))
            (void) worker_close_payload(w->db);
        w->fetch_session = 0;
    } else if (run != asked(w) || w->fetch_session != db_backend_pid(w->db))
        open_next(w, run);
    else if (run->payload.size == 0 || fits(w, run)) /* the first part tells */
        w->fetching = worker_fetch_payload(w->db, on_part, w) >= 0;
}
