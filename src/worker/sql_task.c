/* SPDX-License-Identifier: MIT */
/*
 * The sql executor: a task is one statement, run and completed in one transaction on a session of its own. Sessions
 * are kept by handler, and used again. What became of a transaction whose answer was lost is nobody's guess: the fence
 * refuses the second of two ends, whichever it is.
 */
#include "store/sql_task.h"

#include "base/time.h"
#include "base/timer.h"
#include "worker/core.h"

#define IDLE_USEC (60 * USEC_PER_SEC) /* then a session that nobody uses is closed */

typedef struct Pool Pool;

typedef struct Session {
    struct Session *next;
    Pool *pool;
    Db *db;
    Run *run;         /* NULL: idle */
    bool ready;       /* set up */
    bool sent;        /* the run's transaction is under way */
    bool interrupted; /* an interrupt may still be on its way to this backend */
    uint64_t idle_since, patience;
} Session;

struct Pool {
    Handler *handler; /* not owned: it owns the pool */
    Session *sessions;
    sd_event_source *idle_timer;
};

static void perform(Session *s);

static Session *session_free(Session *s) {
    s->db = db_free(s->db);
    free(s);
    return NULL;
}

/* Its run is over, for this executor. */
static Run *run_leave(Session *s) {
    Run *run = TAKE_PTR(s->run);

    s->sent = false;
    s->idle_since = time_now_boottime();
    db_patience(s->db, s->patience);
    if (run)
        run->execution = NULL;
    if (s->interrupted) /* what may still come must not hit what this backend does next */
        db_reconnect(s->db, "its task was ended");
    return run;
}

/* ---- what became of it ---- */

static RunVerdict verdict_of(const DbReply *reply) {
    static const struct {
        const char *sqlstate;
        RunOutcome outcome;
    } own[] = {
        { SQL_TASK_NOT_OWN, RUN_RETURNED },
        { SQL_TASK_NEVER, RUN_FAILED },
        { SQL_TASK_PUT_OFF, RUN_DEFERRED },
    };
    static const RunOutcome outcomes[] = {
        [DB_OK] = RUN_SETTLED,
        [DB_SKIPPED] = RUN_RETRY,
        [DB_LOST] = RUN_DEFERRED,
        [DB_RETRY] = RUN_DEFERRED,
        [DB_LOCKED] = RUN_DEFERRED,
        [DB_CONFLICT] = RUN_RETRY,
        [DB_INVALID] = RUN_RETRY,
        [DB_UNKNOWN_WORKER] = RUN_RETRY,
        [DB_FATAL] = RUN_RETRY,
    };
    RunVerdict v = {
        .outcome = outcomes[reply->outcome], .error = reply->message, .sqlstate = reply->sqlstate
    };

    for (size_t i = 0; i < ELEMENTS(own); i++)
        if (streq(reply->sqlstate, own[i].sqlstate))
            v.outcome = own[i].outcome;
    v.timed_out = streq(reply->sqlstate, SQL_TASK_CANCELLED);
    return v;
}

static void on_performed(_unused_ Db *db, const DbReply *reply, void *userdata) {
    Session *s = userdata;

    if (!s->run)
        return;
    const RunVerdict v = verdict_of(reply);
    run_judged(run_leave(s), &v);
}

/* ---- sessions ---- */

static void on_set_up(_unused_ Db *db, const DbReply *reply, void *userdata) {
    Session *s = userdata;

    s->ready = reply->outcome == DB_OK;
    if (s->ready)
        perform(s);
    else if (reply->outcome != DB_LOST)
        db_reconnect(s->db, reply->message);
}

static void on_connected(Db *db, void *userdata) {
    Session *s = userdata;

    s->interrupted = false;
    if (worker_session(db, 0, on_set_up, s) < 0)
        db_reconnect(db, "cannot send");
}

/* Also when it could not be made. A run that was under way has been told. */
static void on_lost(_unused_ Db *db, const char *error, void *userdata) {
    Session *s = userdata;

    s->ready = s->interrupted = false;
    if (!s->run)
        return;
    const RunVerdict v = { .outcome = RUN_DEFERRED, .unbegun = !s->sent, .error = error };
    run_judged(run_leave(s), &v);
}

/* The statement itself takes as long as it takes. */
static void on_heard(Db *db, const DbReply *reply, _unused_ void *userdata) {
    if (reply->outcome == DB_OK)
        db_patience(db, 0);
}

/* Behind a question whose answer comes at once: a session may have gone mute while it was idle. */
static void perform(Session *s) {
    Run *run = s->run;

    if (!run || s->sent || !s->ready)
        return;
    const Worker *w = run->userdata;
    const SqlTask task = {
        .worker = w->info.id,
        .id = run->id,
        .claim_no = run->claim_no,
        .statement = run->handler->sql,
        .role = run->handler->role,
        .timeout_usec = run->timeout_usec,
    };
    s->sent = true;
    if (worker_session(s->db, 0, on_heard, NULL) < 0 || sql_task_perform(s->db, &task, on_performed, s) < 0)
        db_reconnect(s->db, "cannot send");
}

static int session_new(Pool *pool, const Worker *w, Session **ret) {
    static const DbEvents events = { .connected = on_connected, .lost = on_lost, .role_path = true };
    const Handler *h = pool->handler;
    _cleanup_(freep) char *name = NULL, *error = NULL;
    Session *s = calloc(1, sizeof(Session));

    if (!s || string_printf(&name, "pgmill-sql@%s/%s", w->info.instance, h->name) < 0) {
        free(s);
        return -ENOMEM;
    }
    s->pool = pool;
    int r =
        db_new(&s->db, w->event, h->database ? h->database : w->config.database, name, &events, s, &error);
    if (r < 0) {
        free(s);
        return r;
    }
    s->patience = fence_patience(&w->fence);
    db_patience(s->db, s->patience);
    s->next = pool->sessions;
    *ret = pool->sessions = s;
    return 0;
}

static int on_idle(sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
    Pool *pool = userdata;
    uint64_t now = time_now_boottime();

    for (Session **p = &pool->sessions; *p;) {
        Session *s = *p;
        if (s->run || now - s->idle_since < IDLE_USEC) {
            p = &s->next;
            continue;
        }
        *p = s->next;
        session_free(s);
    }
    return pool->sessions ? timer_start(source, IDLE_USEC / 4) : 0;
}

/* One that is connected, if there is one. */
static Session *session_idle(const Pool *pool) {
    Session *found = NULL;

    for (Session *s = pool->sessions; s; s = s->next)
        if (!s->run && (!found || s->ready))
            found = s;
    return found;
}

static int pool_get(Handler *h, sd_event *event, Pool **ret) {
    Pool *pool = h->state;

    if (!pool) {
        pool = calloc(1, sizeof(Pool));
        if (!pool)
            return -ENOMEM;
        pool->handler = h;
        h->state = pool;
        int r = timer_new(&pool->idle_timer, event, USEC_PER_SEC, on_idle, pool);
        if (r < 0)
            return r;
    }
    *ret = pool;
    return timer_start(pool->idle_timer, IDLE_USEC);
}

/* ---- the executor ---- */

static int sql_start(Run *run, sd_event *event) {
    Session *s;
    Pool *pool;

    int r = pool_get(run->handler, event, &pool);
    if (r < 0)
        return r;
    s = session_idle(pool);
    if (!s)
        r = session_new(pool, run->userdata, &s);
    if (r < 0)
        return r;
    s->run = run;
    run->execution = s;
    perform(s);
    return 0;
}

/* Closing the session ends its statement within client_connection_check_interval; it cannot commit any more once the
 * run's end is written, so there is nothing to wait for. */
static void session_end(Session *s) {
    const RunVerdict v = { .outcome = s->sent ? RUN_RETRY : RUN_RETURNED, .error = "its session was closed" };

    s->interrupted = true;
    run_judged(run_leave(s), &v);
}

static void sql_stop(Run *run, bool ask) {
    Session *s = run->execution;
    Worker *w = run->userdata;

    if (!s)
        return;
    if (ask && s->sent && sql_task_interrupt(w->db, db_backend_pid(s->db)) >= 0)
        s->interrupted = true;
    else
        session_end(s);
}

static bool sql_waits(const Run *run) {
    const Session *s = run->execution;

    return s && !s->sent;
}

/* Of a run that is given up, its worker ending. */
static void sql_done(Run *run) {
    Session *s = run->execution;

    if (!s)
        return;
    s->interrupted = true;
    (void) run_leave(s);
}

static void sql_retire(Handler *h) {
    Pool *pool = TAKE_PTR(h->state);

    if (!pool)
        return;
    while (pool->sessions) {
        Session *s = pool->sessions;
        pool->sessions = s->next;
        session_free(s);
    }
    sd_event_source_disable_unref(pool->idle_timer);
    free(pool);
}

static const char *sql_missing(const Handler *h) {
    return h->sql ? NULL : "Sql";
}

const Executor executor_sql = {
    .name = "sql",
    .reads_payload = true,
    .missing = sql_missing,
    .start = sql_start,
    .stop = sql_stop,
    .waits = sql_waits,
    .done = sql_done,
    .retire = sql_retire,
};
