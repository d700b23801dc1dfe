/* SPDX-License-Identifier: MIT */
/*
 * Payloads that are too large to come with a claim: fetched when their task has a slot, one after the other and part by
 * part, so that neither the session nor the memory is taken up by them. All that are here share a budget; one that is larger
 * than that is fetched when it is alone.
 */
#include "base/log.h"
#include "worker/core.h"

#define PART_CHARS (4 * 1024 * 1024)

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

static void take_part(Worker *w, Run *run, const DbReply *reply) {
    if (db_rows(reply->rows) == 0) { /* the fence: it is somebody else's */
        run_return(run);
        return;
    }
    const char *part = db_value(reply->rows, 0, 0);
    const size_t n = db_length(reply->rows, 0, 0);
    run->payload_size = (size_t) db_int(reply->rows, 0, 1);
    if (run->payload.size == 0 && !fits(w, run))
        return; /* asked for again when there is room */
    payload_add(&run->payload, part, n, run->payload.size + n >= run->payload_size);
    if (run->payload.whole)
        runs_begin(w, run);
}

static void on_part(_unused_ Db *db, const DbReply *reply, void *userdata) {
    Worker *w = userdata;
    Run *run = runs_find(w, w->fetched_id, w->fetched_no);

    w->fetching = false;
    if (reply->outcome == DB_LOST)
        return; /* goes on with the next session's first turn */
    if (run && run->state == RUN_FETCHING) {
        const LogTask task = run_log_task(run);
        if (reply->outcome == DB_OK)
            take_part(w, run, reply);
        else {
            log_event(LOG_WARNING, NULL, &task, "Cannot fetch its payload: %s", reply->message);
            return; /* again with the next turn */
        }
    }
    fetch_want(w);
}

void fetch_want(Worker *w) {
    Run *run = w->session && !w->fetching ? next(w) : NULL;

    if (!run || (run->payload_size > 0 && run->payload.size == 0 && !fits(w, run)))
        return;
    w->fetched_id = run->id;
    w->fetched_no = run->claim_no;
    w->fetching = worker_payload(w->db, w->info.id, run->id, run->claim_no, run->payload.chars, PART_CHARS,
                      on_part, w) >= 0;
}
