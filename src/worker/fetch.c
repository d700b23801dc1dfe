/* SPDX-License-Identifier: MIT */
/*
 * Payloads that are too large to come with a claim: fetched when their task has a slot, one after the other and part by
 * part, so that the memory is not taken up by them. All that are here share a budget; one that is larger than that is fetched
 * when it is alone. They come on a session of their own, which is there while there is something to fetch: the server may take
 * its time to make the text of one, and signs of life must not wait behind it.
 */
#include "base/log.h"
#include "base/time.h"
#include "worker/core.h"

#define PATIENCE_USEC (60 * USEC_PER_SEC)

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

    w->fetch_open = false;
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
    w->fetch_open = true;
    w->fetching = worker_open_payload(w->fetch_db, w->info.id, run->id, run->claim_no, on_opened, w) >= 0;
}

static void on_connected(_unused_ Db *db, void *userdata) {
    fetch_want(userdata);
}

static void on_lost(_unused_ Db *db, const char *error, void *userdata) {
    Worker *w = userdata;

    w->fetching = w->fetch_open = false;
    if (!w->fetch_why || !streq(w->fetch_why, error))
        log_warning("Cannot fetch payloads now: %s", error);
    (void) string_replace(&w->fetch_why, error);
}

static int connect(Worker *w) {
    static const DbEvents events = { .connected = on_connected, .lost = on_lost, .writes = true };
    _cleanup_(freep) char *name = NULL, *error = NULL;

    if (string_printf(&name, "pgmill-payload@%s", w->info.instance) < 0)
        return -ENOMEM;
    int r = db_new(&w->fetch_db, w->event, w->config.database, name, &events, w, &error);
    if (r >= 0)
        db_patience(w->fetch_db, PATIENCE_USEC);
    return r;
}

void fetch_want(Worker *w) {
    Run *run = next(w);

    if (w->fetching)
        return;
    if (!run) {
        if (w->fetch_open)
            (void) worker_close_payload(w->fetch_db);
        w->fetch_open = false;
    } else if (!w->fetch_db)
        (void) connect(w); /* else with the next turn */
    else if (!db_is_connected(w->fetch_db))
        return;
    else if (run != asked(w) || !w->fetch_open)
        open_next(w, run);
    else if (run->payload.size == 0 || fits(w, run)) /* the first part tells */
        w->fetching = worker_fetch_payload(w->fetch_db, on_part, w) >= 0;
}

void fetch_look(Worker *w) {
    if (next(w))
        fetch_want(w);
    else if (!w->fetching)
        fetch_done(w);
}

void fetch_done(Worker *w) {
    w->fetch_db = db_free(w->fetch_db);
    w->fetch_why = (free(w->fetch_why), NULL);
    w->fetching = w->fetch_open = false;
}
