/* SPDX-License-Identifier: MIT */
/*
 * libpq inside an sd-event loop. Four states: waiting for the next try, resolving names, connecting, up. While up, `pending` mirrors
 * what was sent and not yet answered; libpq answers strictly in that order.
 */
#include "store/db.h"

#include <fcntl.h>
#include <libpq-fe.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <sys/epoll.h>

#include "base/resolve.h"
#include "base/util.h"
#include "store/db_hosts.h"

#define RETRY_FIRST_USEC   (100 * USEC_PER_MSEC)
#define RETRY_MAX_USEC     (2 * USEC_PER_SEC)
#define CONNECT_LIMIT_USEC (10 * USEC_PER_SEC)
#define STATEMENTS_MAX     64 /* kinds of statements one session may use */

typedef enum PendingKind {
    PENDING_PREPARE,
    PENDING_STATEMENT,
    PENDING_SYNC,
} PendingKind;

typedef struct Pending {
    PendingKind kind;
    bool keep_rows; /* db_call(): the rows wait for the sync */
    bool answered;  /* libpq ends each statement's results with a NULL */
    const DbStatement *statement;
    DbCallback callback;
    void *userdata;
} Pending;

/* The first error of the group that is being answered. */
typedef struct GroupError {
    DbOutcome outcome;
    char sqlstate[6];
    char *message, *constraint;
} GroupError;

struct Db {
    sd_event *event;
    sd_event_source *io, *timer;
    Resolve *resolve;
    DbHosts hosts; /* being resolved */
    PGconn *conn;
    bool up, dispatching;
    unsigned tries;
    char *conninfo, *name;
    const DbEvents *events;
    void *userdata;

    Pending *pending; /* a ring */
    size_t pending_first, pending_count, pending_size, groups;

    const DbStatement *prepared[STATEMENTS_MAX];
    size_t n_prepared;

    GroupError error;
    bool warned;
    PGresult *kept;
};

static int connect_start(Db *db);
static void connection_lost(Db *db, const char *reason);

/* ---- rows ---- */

static const PGresult *result(const DbRows *rows) {
    return (const PGresult *) rows;
}

size_t db_rows(const DbRows *rows) {
    return rows ? (size_t) PQntuples(result(rows)) : 0;
}

const char *db_value(const DbRows *rows, size_t row, unsigned column) {
    if (PQgetisnull(result(rows), (int) row, (int) column))
        return NULL;
    return PQgetvalue(result(rows), (int) row, (int) column);
}

size_t db_length(const DbRows *rows, size_t row, unsigned column) {
    return (size_t) PQgetlength(result(rows), (int) row, (int) column);
}

int64_t db_int(const DbRows *rows, size_t row, unsigned column) {
    return strtoll(PQgetvalue(result(rows), (int) row, (int) column), NULL, 10);
}

double db_double(const DbRows *rows, size_t row, unsigned column) {
    return strtod(PQgetvalue(result(rows), (int) row, (int) column), NULL);
}

bool db_bool(const DbRows *rows, size_t row, unsigned column) {
    return PQgetvalue(result(rows), (int) row, (int) column)[0] == 't';
}

DbRows *db_rows_free(DbRows *rows) {
    PQclear((PGresult *) rows);
    return NULL;
}

void db_rows_freep(DbRows **rows) {
    db_rows_free(*rows);
}

/* ---- outcomes ---- */

static DbOutcome outcome_of(const char *sqlstate) {
    static const struct {
        const char *prefix;
        DbOutcome outcome;
    } table[] = {
        { "40", DB_RETRY },    /* deadlock, serialization */
        { "53", DB_RETRY },    /* out of memory, disk, connections, locks */
        { "57P", DB_RETRY },   /* shutting down, crashed, starting up */
        { "58", DB_RETRY },    /* system error: I/O */
        { "25006", DB_RETRY }, /* read-only: a standby, until it is promoted or left */
        { "55P03", DB_LOCKED },
        { "23505", DB_CONFLICT },
        { "22", DB_INVALID },
        { "23", DB_INVALID },
        { "54", DB_INVALID }, /* a row or a value too large */
        { "PM001", DB_UNKNOWN_WORKER },
    };

    for (size_t i = 0; i < ELEMENTS(table); i++)
        if (strncmp(sqlstate, table[i].prefix, strlen(table[i].prefix)) == 0)
            return table[i].outcome;
    return DB_FATAL;
}

/* libpq's messages may span lines; a log line and a problem's detail may not. */
static char *one_line(const char *message) {
    char *line = strdup(message ? message : "");

    if (!line)
        return NULL;
    size_t n = strlen(line);
    while (n > 0 && line[n - 1] == '\n')
        line[--n] = '\0';
    for (char *p = line; (p = strchr(p, '\n'));)
        *p = ' ';
    return line;
}

static void group_error_done(GroupError *e) {
    free(e->message);
    free(e->constraint);
    *e = (GroupError){};
}

static const char *error_field(const PGresult *res, int field) {
    const char *s = PQresultErrorField(res, field);
    return s ? s : "";
}

static void group_error_set(GroupError *e, const PGresult *res) {
    static const int culprits[] = { PG_DIAG_CONSTRAINT_NAME, PG_DIAG_COLUMN_NAME, PG_DIAG_DATATYPE_NAME };
    const char *culprit = "", *detail = error_field(res, PG_DIAG_MESSAGE_DETAIL);
    const char *sqlstate = error_field(res, PG_DIAG_SQLSTATE);
    char *message;

    group_error_done(e);
    for (size_t i = 0; i < ELEMENTS(culprits) && !*culprit; i++)
        culprit = error_field(res, culprits[i]);
    e->outcome = outcome_of(sqlstate);
    (void) snprintf(e->sqlstate, sizeof(e->sqlstate), "%s", sqlstate);
    e->constraint = strdup(culprit);
    if (string_printf(
            &message, "%s%s%s", error_field(res, PG_DIAG_MESSAGE_PRIMARY), *detail ? ": " : "", detail) < 0)
        return;
    e->message = one_line(message);
    free(message);
}

static DbReply reply_of(const GroupError *e) {
    return (DbReply){
        .outcome = e->outcome,
        .sqlstate = e->sqlstate,
        .message = e->message ? e->message : "",
        .constraint = e->constraint ? e->constraint : "",
    };
}

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
        group_error_set(&db->error, res);
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
                                                     : reply_of(&db->error);
    if (ok)
        reply = (DbReply){ .sqlstate = "", .message = "", .constraint = "", .rows = (const DbRows *) res };
    p->callback(db, &reply, p->userdata);
}

static void sync_answered(Db *db) {
    Pending p = pending_pop(db);
    GroupError error = db->error;
    DbReply reply = reply_of(&error);

    db->error = (GroupError){};
    db->groups--;
    reply.warned = db->warned;
    db->warned = false;
    if (reply.outcome == DB_OK)
        reply.rows = (const DbRows *) db->kept;
    if (p.callback)
        p.callback(db, &reply, p.userdata);
    PQclear(TAKE_PTR(db->kept));
    group_error_done(&error);
}

DbRows *db_take_rows(Db *db) {
    return (DbRows *) TAKE_PTR(db->kept);
}

static void result_arrived(Db *db, PGresult *res) {
    Pending *p = pending_at(db, 0);

    if (PQresultStatus(res) == PGRES_PIPELINE_SYNC) {
        if (p->kind == PENDING_SYNC)
            sync_answered(db);
    } else if (p->kind != PENDING_SYNC)
        statement_answered(db, p, res);
    else if (PQresultStatus(res) == PGRES_FATAL_ERROR && db->error.outcome == DB_OK)
        group_error_set(&db->error, res); /* the commit itself failed */
    if (res != db->kept)
        PQclear(res);
}

static void dispatch_answers(Db *db) {
    unsigned nulls = 0;

    while (db->up && db->pending_count > 0 && !PQisBusy(db->conn)) {
        PGresult *res = PQgetResult(db->conn);
        if (res && PQstatus(db->conn) == CONNECTION_BAD) {
            PQclear(res);
            return; /* on_io() sees the connection's end */
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

static void on_notice(void *userdata, const PGresult *res) {
    Db *db = userdata;

    if (streq(error_field(res, PG_DIAG_SEVERITY_NONLOCALIZED), "WARNING"))
        db->warned = true;
}

static int flush(Db *db) {
    int r = PQflush(db->conn); /* a failed write is no error yet: the server's last words may still be read */
    if (r < 0 || PQsocket(db->conn) < 0)
        return -ENOTCONN;
    return sd_event_source_set_io_events(db->io, EPOLLIN | (r > 0 ? (uint32_t) EPOLLOUT : 0));
}

static int on_io(_unused_ sd_event_source *s, _unused_ int fd, uint32_t revents, void *userdata) {
    Db *db = userdata;
    bool alive = true;

    if (revents & (EPOLLIN | EPOLLHUP | EPOLLERR))
        alive = PQconsumeInput(db->conn) == 1;
    dispatch_answers(db); /* what arrived before the end is still true */
    dispatch_notifications(db);
    if (!db->up)
        return 0;
    if (!alive || PQstatus(db->conn) == CONNECTION_BAD || flush(db) < 0) {
        _cleanup_(freep) char *reason = one_line(PQerrorMessage(db->conn));
        connection_lost(db, reason && *reason ? reason : "the connection was closed");
    }
    return 0;
}

/* ---- connecting ---- */

static int on_timer(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
    Db *db = userdata;

    if (db->up) { /* send_failed() */
        _cleanup_(freep) char *reason = one_line(PQerrorMessage(db->conn));
        dispatch_answers(db); /* what arrived before the end is still true */
        if (db->up)
            connection_lost(db, reason && *reason ? reason : "out of memory");
    } else if (db->conn)
        connection_lost(db, "no answer to the connection attempt within 10 s");
    else if (connect_start(db) < 0)
        connection_lost(db, "out of memory");
    return 0;
}

static int timer_set(Db *db, uint64_t usec) {
    int r = 0;

    if (!db->timer)
        r = sd_event_add_time_relative(
            db->event, &db->timer, CLOCK_BOOTTIME, usec, USEC_PER_MSEC, on_timer, db);
    else
        r = sd_event_source_set_time_relative(db->timer, usec);
    return r < 0 ? r : sd_event_source_set_enabled(db->timer, SD_EVENT_ONESHOT);
}

static void disconnect(Db *db) {
    db->up = false;
    db->resolve = resolve_free(db->resolve);
    db_hosts_done(&db->hosts);
    db->io = sd_event_source_disable_unref(db->io);
    if (db->conn)
        PQfinish(TAKE_PTR(db->conn));
    db->n_prepared = 0;
    group_error_done(&db->error);
    db->warned = false;
    PQclear(TAKE_PTR(db->kept));
}

/* Callbacks may call db_send() again; it answers -ENOTCONN, so the list only shrinks. */
static void abandon_pending(Db *db, const char *reason) {
    const DbReply lost = { .outcome = DB_LOST, .sqlstate = "", .message = reason, .constraint = "" };

    db->groups = 0;
    while (db->pending_count > 0) {
        Pending p = pending_pop(db);
        if (p.callback && !p.answered)
            p.callback(db, &lost, p.userdata);
    }
}

static void connection_lost(Db *db, const char *reason) {
    uint64_t wait = MIN(RETRY_FIRST_USEC << MIN(db->tries, 8U), RETRY_MAX_USEC);

    db->tries++;
    disconnect(db);
    /* Somewhere in the upper half, so that a restarted server is not met by everybody at once. */
    (void) timer_set(db, wait / 2 + random_u32() % (wait / 2));
    abandon_pending(db, reason);
    if (db->events->lost)
        db->events->lost(db, reason, db->userdata);
}

static void connection_up(Db *db) {
    (void) sd_event_source_set_enabled(db->timer, SD_EVENT_OFF);
    db->tries = 0;
    db->up = true;
    (void) PQsetNoticeReceiver(db->conn, on_notice, db);
    if (db->events->connected)
        db->events->connected(db, db->userdata);
}

static int on_connecting(
    _unused_ sd_event_source *s, _unused_ int fd, _unused_ uint32_t revents, void *userdata);

/*
 * Watches a descriptor of our own. libpq closes its socket as it likes, and a program that was forked at that moment
 * keeps it open for a while: taking the closed number out of the loop would fail, and events would come for a source
 * that is gone.
 */
static int socket_watch(Db *db, uint32_t events, sd_event_io_handler_t handler) {
    db->io = sd_event_source_disable_unref(db->io);
    int fd = fcntl(PQsocket(db->conn), F_DUPFD_CLOEXEC, 3);
    if (fd < 0)
        return -errno;
    int r = sd_event_add_io(db->event, &db->io, fd, events, handler, db);
    if (r < 0) {
        (void) close_fd(fd);
        return r;
    }
    return sd_event_source_set_io_fd_own(db->io, true);
}

static int connecting_watch(Db *db, PostgresPollingStatusType poll) {
    return socket_watch(db, poll == PGRES_POLLING_READING ? EPOLLIN : EPOLLOUT, on_connecting);
}

static int on_connecting(
    _unused_ sd_event_source *s, _unused_ int fd, _unused_ uint32_t revents, void *userdata) {
    Db *db = userdata;
    PostgresPollingStatusType poll = PQconnectPoll(db->conn);

    if (poll == PGRES_POLLING_OK) {
        if (PQsetnonblocking(db->conn, 1) == 0 && PQenterPipelineMode(db->conn) == 1 &&
            socket_watch(db, EPOLLIN, on_io) >= 0) {
            connection_up(db);
            return 0;
        }
    } else if (poll != PGRES_POLLING_FAILED && connecting_watch(db, poll) >= 0)
        return 0;
    _cleanup_(freep) char *reason = one_line(PQerrorMessage(db->conn));
    connection_lost(db, reason ? reason : "out of memory");
    return 0;
}

/* Later parameters override earlier ones; conninfo is expanded where dbname stands. */
static int connect_to(Db *db, const DbAddresses *a) {
    const char *keywords[] = { "client_encoding", "keepalives_idle", "keepalives_interval",
        "keepalives_count", "tcp_user_timeout", "dbname", "application_name", a ? "host" : NULL, "hostaddr",
        "port", NULL };
    const char *values[] = { "UTF8", "2", "1", "2", "4000", db->conninfo, db->name, a ? a->host.data : NULL,
        a ? a->hostaddr.data : NULL, a ? a->port.data : NULL, NULL };

    db->conn = PQconnectStartParams(keywords, values, 1);
    if (!db->conn)
        return -ENOMEM;
    int r = timer_set(db, CONNECT_LIMIT_USEC);
    if (r < 0)
        return r;
    if (PQstatus(db->conn) == CONNECTION_BAD) {
        _cleanup_(freep) char *reason = one_line(PQerrorMessage(db->conn));
        connection_lost(db, reason ? reason : "out of memory");
        return 0;
    }
    return connecting_watch(db, PGRES_POLLING_WRITING);
}

static void on_resolved(const char *answer, void *userdata) {
    _cleanup_(db_addresses_done) DbAddresses a = {};
    Db *db = userdata;

    int r = db_hosts_addresses(&db->hosts, answer, &a);
    db->resolve = resolve_free(db->resolve);
    if (r >= 0 && a.n == 0) {
        connection_lost(db, a.error);
        return;
    }
    if (r >= 0)
        r = connect_to(db, &a);
    if (r < 0)
        connection_lost(db, "out of memory");
}

/* NULL: neither said so nor preset (PGHOST and its like). */
static const char *option(
    const PQconninfoOption *given, const PQconninfoOption *preset, const char *keyword) {
    const PQconninfoOption *lists[] = { given, preset };

    for (size_t i = 0; i < ELEMENTS(lists); i++)
        for (const PQconninfoOption *o = lists[i]; o && o->keyword; o++)
            if (streq(o->keyword, keyword) && o->val && *o->val)
                return o->val;
    return NULL;
}

/* libpq would wait for the name server. What a service file says is left to it all the same. */
static int find_hosts(Db *db) {
    PQconninfoOption *given = PQconninfoParse(db->conninfo, NULL), *preset = PQconndefaults();
    bool addresses = option(given, preset, "hostaddr");
    const char *host = addresses ? NULL : option(given, preset, "host");

    db_hosts_done(&db->hosts);
    int r = given && preset ? db_hosts_parse(host, option(given, preset, "port"), &db->hosts) : -ENOMEM;
    PQconninfoFree(given);
    PQconninfoFree(preset);
    return r;
}

static int connect_start(Db *db) {
    int r = find_hosts(db);
    if (r < 0)
        return r;
    if (!db->hosts.names[0])
        return connect_to(db, NULL);
    r = resolve_start(&db->resolve, db->event, db->hosts.names, on_resolved, db);
    if (r == -ENOMEM)
        return r;
    if (r < 0) /* no process, no descriptor: try again */
        connection_lost(db, strerror(-r));
    return 0;
}

/* Once in a process. OpenSSL's own configuration may name providers that a static executable cannot load. */
static void libraries_init(void) {
    static bool done;

    if (done)
        return;
    done = true;
    (void) OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
    /* Start-up parameters, and ones that poolers keep apart for each client. */
    (void) setenv("PGTZ", "UTC", 1);
    (void) setenv("PGDATESTYLE", "ISO", 1);
}

static int conninfo_parse(const char *conninfo, PQconninfoOption **ret, char **ret_error) {
    char *error = NULL;

    *ret = PQconninfoParse(conninfo, &error);
    if (*ret)
        return 0;
    if (ret_error)
        *ret_error = one_line(error ? error : "out of memory");
    PQfreemem(error);
    return -EINVAL;
}

static int conninfo_check(const char *conninfo, char **ret_error) {
    PQconninfoOption *options;
    int r = conninfo_parse(conninfo, &options, ret_error);

    PQconninfoFree(options);
    return r;
}

int db_conninfo_get(const char *conninfo, const char *keyword, char **ret, char **ret_error) {
    PQconninfoOption *options;
    int r = conninfo_parse(conninfo, &options, ret_error);

    if (r < 0)
        return r;
    for (const PQconninfoOption *o = options; o->keyword && r >= 0; o++)
        if (streq(o->keyword, keyword))
            r = string_replace(ret, o->val);
    PQconninfoFree(options);
    return r;
}

int db_new(Db **ret, sd_event *event, const char *conninfo, const char *name, const DbEvents *events,
    void *userdata, char **ret_error) {
    _cleanup_(db_freep) Db *db = NULL;
    int r;

    libraries_init();
    r = conninfo_check(conninfo, ret_error);
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
    r = timer_set(db, 0); /* from the loop, so that no callback comes before db_new() has returned */
    if (r < 0)
        return r;
    *ret = TAKE_PTR(db);
    return 0;
}

Db *db_free(Db *db) {
    if (!db)
        return NULL;
    disconnect(db);
    abandon_pending(db, "the connection was closed");
    sd_event_source_disable_unref(db->timer);
    sd_event_unref(db->event);
    free(db->pending);
    free(db->conninfo);
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
        connection_lost(db, reason);
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
    (void) timer_set(db, 0);
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
        *ret_error = one_line("the connection is not idle");
        return -ENOTCONN;
    }
    PGresult *res = PQexec(db->conn, sql);
    ExecStatusType status = PQresultStatus(res);
    bool ok = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
    if (!ok)
        *ret_error = one_line(PQerrorMessage(db->conn));
    PQclear(res);
    if (PQsetnonblocking(db->conn, 1) != 0 || !PQenterPipelineMode(db->conn))
        db_reconnect(db, "cannot enter pipeline mode");
    return ok ? 0 : -EIO;
}
