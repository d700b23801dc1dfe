/* SPDX-License-Identifier: MIT */
/*
 * From a fresh connection to a session that may claim, each step a round trip of its own: schema, pooler, lock
 * (register, or attach again), LISTEN, reconcile. A step that fails ends the connection; db.c tries again.
 */
#include <stdio.h>
#include <sysexits.h>

#include "base/log.h"
#include "base/log_id.h"
#include "base/service.h"
#include "base/time.h"
#include "store/schema.h"
#include "worker/core.h"

#define WARNED_USEC (60 * USEC_PER_SEC)

static void step_schema(Worker *w);
static void step_session(Worker *w);
static void step_lock(Worker *w);
static void step_listen(Worker *w);
static void step_reconcile(Worker *w);

/* Sends failed for want of memory or connection; either way the connection is given up. */
static void check_sent(Worker *w, int r) {
    if (r < 0)
        db_reconnect(w->db, "cannot send");
}

/* What a step needs to see before the next one; else the connection is given up, and on_lost() says why. */
static bool answered(Worker *w, const DbReply *reply, const char *step) {
    _cleanup_(freep) char *why = NULL;

    if (reply->outcome == DB_OK)
        return true;
    if (reply->outcome != DB_LOST)
        db_reconnect(
            w->db, string_printf(&why, "cannot %s: %s", step, reply->message) < 0 ? "out of memory" : why);
    return false;
}

static int on_schema_retry(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
    Worker *w = userdata;

    if (db_is_connected(w->db) && !w->session)
        step_schema(w);
    return 0;
}

static void schema_wait(Worker *w, int version) {
    if (!w->said_waiting)
        log_event(LOG_WARNING, LOG_ID_SCHEMA_TOO_OLD, NULL,
            "The database has schema %d, this executable needs %u: run \"pgmill migrate\"", version,
            schema_version());
    w->said_waiting = true;
    (void) string_replace(&w->database_why, "its schema is too old");
    service_status("waiting: the database has schema %d, run \"pgmill migrate\"", version);
    w->retry_timer = sd_event_source_disable_unref(w->retry_timer);
    (void) sd_event_add_time_relative(
        w->event, &w->retry_timer, CLOCK_BOOTTIME, USEC_PER_SEC, 0, on_schema_retry, w);
}

static void on_schema(_unused_ Db *db, const DbReply *reply, void *userdata) {
    Worker *w = userdata;
    int version = schema_version_of(reply);

    if (version < 0)
        (void) answered(w, reply, "read the schema's version");
    else if ((unsigned) version < schema_version())
        schema_wait(w, version);
    else {
        if ((unsigned) version > schema_version() && (!w->said_ready || w->said_waiting))
            log_event(LOG_NOTICE, LOG_ID_SCHEMA_TOO_NEW, NULL,
                "The database has schema %d, this executable knows %u: going on, but upgrade it soon",
                version, schema_version());
        step_session(w);
    }
}

static void step_schema(Worker *w) {
    check_sent(w, schema_check(w->db, on_schema, w));
}

static void on_session(_unused_ Db *db, const DbReply *reply, void *userdata) {
    Worker *w = userdata;

    if (answered(w, reply, "set the session up"))
        step_lock(w);
}

static void step_session(Worker *w) {
    check_sent(w, worker_session(w->db, w->info.grace_usec, on_session, w));
}

static void on_registered(_unused_ Db *db, const DbReply *reply, void *userdata) {
    Worker *w = userdata;

    if (!answered(w, reply, "register"))
        return;
    w->registered = true;
    w->named = !w->draining && !rest_any(w);
    fence_prove(&w->fence, w->lock_sent);
    step_listen(w);
}

static void on_attached(_unused_ Db *db, const DbReply *reply, void *userdata) {
    Worker *w = userdata;

    if (!answered(w, reply, "attach to the former session's tasks"))
        return;
    if (db_bool(reply->rows, 0, 0)) {
        if (!reply->warned)
            fence_prove(&w->fence, w->lock_sent); /* it changed the beat, and holds the lock since */
        step_listen(w);
        return;
    }
    log_event(LOG_WARNING, LOG_ID_FENCED, NULL,
        "This worker was given up as dead; ending its tasks and registering anew");
    runs_kill_all(w);
    w->registered = false;
    w->took_over =
        true; /* from now on a former life may be this process's own, whose programs have yet to end */
    step_lock(w);
}

static void step_lock(Worker *w) {
    if (!w->registered)
        w->info.id = id_new();
    w->lock_sent = time_now_boottime();
    check_sent(w, w->registered ? worker_attach(w->db, w->info.id, on_attached, w)
                                : worker_register(w->db, &w->info, on_registered, w));
}

static void on_listening(_unused_ Db *db, const DbReply *reply, void *userdata) {
    Worker *w = userdata;

    if (answered(w, reply, "listen for new tasks"))
        step_reconcile(w);
}

static void step_listen(Worker *w) {
    check_sent(w, worker_listen(w->db, w->info.id, on_listening, w));
}

/* Rows that this worker holds and does not know go back; programs whose row is no longer its own are ended. */
static void on_listed(_unused_ Db *db, const DbReply *reply, void *userdata) {
    Worker *w = userdata;
    const size_t known = w->n_runs; /* those added here come behind them */
    _cleanup_(freep) bool *listed = calloc(known + 1, sizeof(bool));

    if (reply->outcome != DB_OK || !listed)
        return; /* the sync tells */
    for (size_t i = 0; i < db_rows(reply->rows); i++) {
        Id id;
        if (id_parse(db_value(reply->rows, i, CLAIMED_ID), &id) < 0)
            continue;
        Run *run = runs_find(w, id, db_int(reply->rows, i, CLAIMED_NO));
        for (size_t k = 0; run && k < known; k++)
            if (w->runs[k] == run)
                listed[k] = true;
        if (!run) {
            run = runs_add(w, reply->rows, i);
            if (run)
                run_return(run);
        }
    }
    for (size_t k = 0; k < known; k++)
        if (!listed[k] && w->runs[k]->state < RUN_ENDED) {
            const LogTask task = run_log_task(w->runs[k]);
            log_event(LOG_WARNING, LOG_ID_FENCED, &task, "It is no longer this worker's: ending it");
            run_interrupt(w->runs[k]);
        }
}

static void on_reconciled(_unused_ Db *db, const DbReply *reply, void *userdata) {
    Worker *w = userdata;

    if (!answered(w, reply, "look for tasks this worker holds"))
        return;
    w->session = true;
    if (w->said_waiting || !w->said_ready)
        log_info("Ready as worker %s: %s", w->info.instance, ID_TEXT(w->info.id));
    w->said_waiting = false;
    w->said_ready = true;
    service_ready("connected");
    turn_session_up(w);
    takeover_begin(w);
}

static void step_reconcile(Worker *w) {
    int r = worker_claimed_tasks(w->db, w->info.id, "{}", on_listed, w);
    check_sent(w, r < 0 ? r : db_sync(w->db, on_reconciled, w));
}

/* ---- the connection's events ---- */

static void on_connected(_unused_ Db *db, void *userdata) {
    step_schema(userdata);
}

static void on_pooled(_unused_ Db *db, void *userdata) {
    log_event(LOG_ERR, LOG_ID_POOLER, NULL,
        "There is a connection pooler between this worker and PostgreSQL. A worker needs sessions of its "
        "own: "
        "give it the server's own address and port");
    worker_fatal(userdata, EX_CONFIG);
}

static void on_lost(_unused_ Db *db, const char *error, void *userdata) {
    Worker *w = userdata;

    w->session = false;
    w->retry_timer = sd_event_source_disable_unref(w->retry_timer);
    rescuer_reset(w->rescuer);
    turn_session_lost(w);
    if (!w->said_waiting || !w->database_why || !streq(w->database_why, error))
        log_event(LOG_WARNING, LOG_ID_DATABASE_LOST, NULL, "Waiting for the database: %s", error);
    w->said_waiting = true;
    (void) string_replace(&w->database_why, error);
    service_status("waiting for the database: %s", error);
}

static void on_notified(_unused_ Db *db, _unused_ const char *channel, const char *payload, void *userdata) {
    if (streq(payload, "orders"))
        orders_want(userdata);
    else
        turn_notified(userdata);
}

/* One that comes with each commit is said once a minute. */
static void on_warned(_unused_ Db *db, const char *message, void *userdata) {
    Worker *w = userdata;
    const uint64_t now = time_now_boottime();

    if (w->warned_at > 0 && now - w->warned_at < WARNED_USEC)
        return;
    w->warned_at = now;
    log_warning("The database warns: %s", message);
}

int session_open(Worker *w) {
    static const DbEvents events = { .connected = on_connected,
        .lost = on_lost,
        .notified = on_notified,
        .warned = on_warned,
        .pooled = on_pooled,
        .writes = true };
    _cleanup_(freep) char *name = NULL, *error = NULL;

    if (string_printf(&name, "pgmill-worker@%s", w->info.instance) < 0)
        return -ENOMEM;
    int r = db_new(&w->db, w->event, w->config.database, name, &events, w, &error);
    if (r == -EINVAL) {
        log_error("The database's URL cannot be read: %s", error ? error : "");
        return -EBADMSG;
    }
    if (r < 0)
        return r;
    db_patience(w->db, fence_patience(&w->fence));
    return rescuer_new(&w->rescuer, w->event, w->db);
}

void session_close(Worker *w) {
    w->retry_timer = sd_event_source_disable_unref(w->retry_timer);
    w->db = db_free(w->db);
    w->rescuer = rescuer_free(w->rescuer);
    w->database_why = (free(w->database_why), NULL);
}
