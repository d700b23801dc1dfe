/* SPDX-License-Identifier: MIT */
/*
 * libpq inside an sd-event loop: what is sent and what comes back. While the connection is up, `pending` mirrors what was
 * sent and not yet answered; libpq answers strictly in that order.
 */
#include "store/db.h"

#include <sys/epoll.h>

#include "base/time.h"
#include "base/util.h"
#include "store/db_parts.h"

/* ---- pending ---- */

static Pending *pending_at(Db *db, size_t i) {
    return &db->pending[(db->pending_first + i) % db->pending_size];
}

static int pending_reserve(Db *db, size_t n) {
    if (db->pending_count + n <= db->pending_size)
        return 0;
    size_t size = MAX(db->pending_size * 2, (size_t) 16);
    Pending *p = calloc(size, sizeof(Pending));
    if (!p)
        return -ENOMEM;
    for (size_t i = 0; i < db->pending_count; i++)
        p[i] = *pending_at(db, i);
    free(db->pending);
    db->pending = p;
    db->pending_first = 0;
    db->pending_size = size;
    return 0;
}

static void pending_push(Db *db, Pending entry) {
    entry.sent = time_now_boottime();
    db->pending_count++;
    *pending_at(db, db->pending_count - 1) = entry;
}

static Pending pending_pop(Db *db) {
    Pending entry = *pending_at(db, 0);
    db->pending_first = (db->pending_first + 1) % db->pending_size;
    db->pending_count--;
    return entry;
}

size_t db_pending(const Db *db) {
    return db->groups;
}

/* ---- patience ---- */

/* Of the oldest question; the server answers in order. */
uint64_t db_patience_end(const Db *db) {
    return db->patience == 0 || db->pending_count == 0 ? UINT64_MAX
                                                       : db->pending[db->pending_first].sent + db->patience;
}

void db_patience(Db *db, uint64_t usec) {
    db->patience = usec;
}

/* ---- answers ---- */

static void forget_prepared(Db *db, const DbStatement *statement) {
    for (size_t i = 0; i < db->n_prepared; i++)
        if (db->prepared[i] == statement) {
            db->prepared[i] = db->prepared[--db->n_prepared];
            return;
        }
}

static void statement_answered(Db *db, Pending *p, PGresult *res) {
    ExecStatusType status = PQresultStatus(res);
    bool ok = status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK;

    p->answered = true;
    if (status == PGRES_FATAL_ERROR && db->error.outcome == DB_OK)
        db_error_set(&db->error, res);
    if (!ok && p->kind == PENDING_PREPARE)
        forget_prepared(db, p->statement);
    if (p->kind == PENDING_PREPARE)
        return;
    if (p->keep_rows && ok) {
        db->kept = res;
        return;
    }
    if (!p->callback)
        return;
    DbReply reply = status == PGRES_PIPELINE_ABORTED ? (DbReply){ .outcome = DB_SKIPPED,
        .sqlstate = "",
        .message = "an earlier statement failed",
        .constraint = "" }
                                                     : db_error_reply(&db->error);
    if (ok)
        reply = (DbReply){ .sqlstate = "", .message = "", .constraint = "", .rows = (const DbRows *) res };
    p->callback(db, &reply, p->userdata);
}

static void sync_answered(Db *db) {
    Pending p = pending_pop(db);
    DbError error = db->error;
    DbReply reply = db_error_reply(&error);

    db->error = (DbError){};
    db->groups--;
    reply.warned = db->warned;
    db->warned = false;
    if (reply.outcome == DB_OK)
        reply.rows = (const DbRows *) db->kept;
    if (p.callback)
        p.callback(db, &reply, p.userdata);
    PQclear(TAKE_PTR(db->kept));
    if (db->events->writes && streq(error.sqlstate, "25006"))
        db_reconnect(db, reply.message);
    db_error_done(&error);
}

DbRows *db_take_rows(Db *db) {
    return (DbRows *) TAKE_PTR(db->kept);
}

static bool is_last(const PGresult *res) {
    const char *severity = db_error_field(res, PG_DIAG_SEVERITY_NONLOCALIZED);

    return streq(severity, "FATAL") || streq(severity, "PANIC");
}

static void result_arrived(Db *db, PGresult *res) {
    Pending *p = pending_at(db, 0);

    if (PQresultStatus(res) == PGRES_PIPELINE_SYNC) {
        if (p->kind == PENDING_SYNC)
            sync_answered(db);
    } else if (p->kind != PENDING_SYNC)
        statement_answered(db, p, res);
    else if (PQresultStatus(res) == PGRES_FATAL_ERROR && db->error.outcome == DB_OK)
        db_error_set(&db->error, res); /* the commit itself failed */
    if (res != db->kept)
        PQclear(res);
}

void db_dispatch_answers(Db *db) {
    unsigned nulls = 0;

    if (time_now_boottime() >= db_patience_end(db)) {
        db_connection_silent(db);
        return;
    }
    while (db->up && db->pending_count > 0 && !PQisBusy(db->conn)) {
        PGresult *res = PQgetResult(db->conn);
        if (res && is_last(res))
            db_last_words(db, db_error_text(res));
        if (res && PQstatus(db->conn) == CONNECTION_BAD) {
            PQclear(res);
            return; /* db_on_io() sees the connection's end */
        }
        if (res) {
            nulls = 0;
            result_arrived(db, res);
        } else if (pending_at(db, 0)->answered)
            (void) pending_pop(db);
        else if (++nulls > 1)
            return;
    }
}

static void dispatch_notifications(Db *db) {
    PGnotify *n;

    while (db->up && (n = PQnotifies(db->conn))) {
        if (db->events->notified)
            db->events->notified(db, n->relname, n->extra, db->userdata);
        PQfreemem(n);
    }
}

void db_on_notice(void *userdata, const PGresult *res) {
    Db *db = userdata;

    if (is_last(res)) /* of a session in which nothing was asked */
        db_last_words(db, db_error_text(res));
    else if (db_is_doubt(res))
        db->warned = true;
    else if (streq(db_error_field(res, PG_DIAG_SEVERITY_NONLOCALIZED), "WARNING") && db->events->warned) {
        _cleanup_(freep) char *message = db_error_text(res);
        db->events->warned(db, message ? message : "", db->userdata);
    }
}

static int flush(Db *db) {
    int r = PQflush(db->conn); /* a failed write is no error yet: the server's last words may still be read */
    if (r < 0 || PQsocket(db->conn) < 0)
        return -ENOTCONN;
    return sd_event_source_set_io_events(db->io, EPOLLIN | (r > 0 ? (uint32_t) EPOLLOUT : 0));
}

/* Callbacks may call db_send() again; it answers -ENOTCONN, so the list only shrinks. */
void db_abandon_pending(Db *db, const char *reason) {
    const DbReply lost = { .outcome = DB_LOST, .sqlstate = "", .message = reason, .constraint = "" };

    db->groups = 0;
    while (db->pending_count > 0) {
        Pending p = pending_pop(db);
        if (p.callback && !p.answered)
            p.callback(db, &lost, p.userdata);
    }
}

/* libpq goes on adding to its message once the socket is gone: what it says first is the reason. */
static bool hear(Db *db) {
    if (PQconsumeInput(db->conn) != 1) {
        if (!db->last_words)
            db_last_words(db, db_one_line(PQerrorMessage(db->conn)));
        return false;
    }
    return true;
}

int db_on_io(_unused_ sd_event_source *s, _unused_ int fd, uint32_t revents, void *userdata) {
    Db *db = userdata;
    bool alive = true;

    if (revents & (EPOLLIN | EPOLLHUP | EPOLLERR))
        alive = hear(db);
    db_dispatch_answers(db); /* what arrived before the end is still true */
    dispatch_notifications(db);
    if (!db->up)
        return 0;
    if (!alive || PQstatus(db->conn) == CONNECTION_BAD || flush(db) < 0)
        db_connection_broken(db);
    return 0;
}

int db_new(Db **ret, sd_event *event, const char *conninfo, const char *name, const DbEvents *events,
    void *userdata, char **ret_error) {
    _cleanup_(db_freep) Db *db = NULL;
    int r;

    db_libraries_init();
    r = db_conninfo_check(conninfo, ret_error);
    if (r < 0)
        return r;
    db = calloc(1, sizeof(Db));
    if (!db)
        return -ENOMEM;
    db->event = sd_event_ref(event);
    db->events = events;
    db->userdata = userdata;
    if (string_replace(&db->conninfo, conninfo) < 0 || string_replace(&db->name, name) < 0)
        return -ENOMEM;
    r = db_timer_set(db, 0); /* from the loop, so that no callback comes before db_new() has returned */
    if (r < 0)
        return r;
    *ret = TAKE_PTR(db);
    return 0;
}

Db *db_free(Db *db) {
    if (!db)
        return NULL;
    db_disconnect(db);
    db_abandon_pending(db, "the connection was closed");
    sd_event_source_disable_unref(db->timer);
    sd_event_unref(db->event);
    free(db->pending);
    free(db->conninfo);
    free(db->session[0]);
    free(db->session[1]);
    free(db->name);
    free(db);
    return NULL;
}

void db_freep(Db **db) {
    db_free(*db);
}

bool db_is_connected(const Db *db) {
    return db->up;
}

int db_backend_pid(const Db *db) {
    return db->up ? PQbackendPID(db->conn) : 0;
}

sd_event *db_event(Db *db) {
    return db->event;
}

void db_reconnect(Db *db, const char *reason) {
    if (db->conn)
        db_connection_lost(db, reason);
}

/* ---- sending ---- */

static bool is_prepared(const Db *db, const DbStatement *statement) {
    for (size_t i = 0; i < db->n_prepared; i++)
        if (db->prepared[i] == statement)
            return true;
    return false;
}

/*
 * libpq refused: memory, or the connection broke. It may have closed the socket, of which the loop hears nothing,
 * and what was queued of a group cannot be taken back; so the session ends, from the loop.
 */
static int send_failed(Db *db) {
    db->broken = true;
    (void) db_timer_set(db, 0);
    return PQstatus(db->conn) == CONNECTION_BAD ? -ENOTCONN : -ENOMEM;
}

static int send_statement(Db *db, const DbStatement *statement, const char *const params[], Pending entry) {
    if (!db->up)
        return -ENOTCONN;
    int r = pending_reserve(db, 3);
    if (r < 0)
        return r;
    if (!is_prepared(db, statement)) {
        if (db->n_prepared == STATEMENTS_MAX)
            return -ENOBUFS;
        if (!PQsendPrepare(db->conn, statement->name, statement->sql, 0, NULL))
            return send_failed(db);
        db->prepared[db->n_prepared++] = statement;
        pending_push(db, (Pending){ .kind = PENDING_PREPARE, .statement = statement });
    }
    if (!PQsendQueryPrepared(db->conn, statement->name, (int) statement->params, params, NULL, NULL, 0))
        return send_failed(db);
    pending_push(db, entry);
    return 0;
}

int db_send(
    Db *db, const DbStatement *statement, const char *const params[], DbCallback callback, void *userdata) {
    return send_statement(db, statement, params,
        (Pending){
            .kind = PENDING_STATEMENT, .statement = statement, .callback = callback, .userdata = userdata });
}

/* From here on an answer is awaited. The timer is left running by later ones, and looks again at its end. */
static void await(Db *db) {
    if (db->patience > 0 && !db->broken && sd_event_source_get_enabled(db->timer, NULL) == 0)
        (void) db_timer_set(db, db->patience);
}

int db_sync(Db *db, DbCallback callback, void *userdata) {
    if (!db->up)
        return -ENOTCONN;
    int r = pending_reserve(db, 1);
    if (r < 0)
        return r;
    if (!PQpipelineSync(db->conn))
        return send_failed(db);
    pending_push(db, (Pending){ .kind = PENDING_SYNC, .callback = callback, .userdata = userdata });
    db->groups++;
    await(db);
    if (flush(db) < 0)
        (void) send_failed(db); /* the callback is told */
    return 0;
}

int db_call(
    Db *db, const DbStatement *statement, const char *const params[], DbCallback callback, void *userdata) {
    int r = send_statement(db, statement, params,
        (Pending){ .kind = PENDING_STATEMENT, .statement = statement, .keep_rows = true });
    return r < 0 ? r : db_sync(db, callback, userdata);
}

int db_script(Db *db, const char *sql, char **ret_error) {
    if (!db->up || !PQexitPipelineMode(db->conn) || PQsetnonblocking(db->conn, 0) != 0) {
        *ret_error = db_one_line("the connection is not idle");
        return -ENOTCONN;
    }
    PGresult *res = PQexec(db->conn, sql);
    ExecStatusType status = PQresultStatus(res);
    bool ok = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
    bool busy = !ok && streq(db_error_field(res, PG_DIAG_SQLSTATE), "55P03");
    if (!ok)
        *ret_error = db_one_line(PQerrorMessage(db->conn));
    PQclear(res);
    if (PQsetnonblocking(db->conn, 1) != 0 || !PQenterPipelineMode(db->conn))
        db_reconnect(db, "cannot enter pipeline mode");
    return ok ? 0 : busy ? -EBUSY : -EIO;
}
