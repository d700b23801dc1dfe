/* SPDX-License-Identifier: MIT */
/*
 * The life of a connection: waiting for the next try, resolving names, connecting, up.
 */
#include <fcntl.h>
#include <openssl/ssl.h>
#include <sys/epoll.h>

#include "base/time.h"
#include "base/util.h"
#include "store/db_parts.h"

#define RETRY_FIRST_USEC   (100 * USEC_PER_MSEC)
#define RETRY_MAX_USEC     (2 * USEC_PER_SEC)
#define CONNECT_LIMIT_USEC (10 * USEC_PER_SEC)

static int connect_start(Db *db);

static uint64_t connect_limit(const Db *db) {
    return db->patience > 0 ? MIN(db->patience, CONNECT_LIMIT_USEC) : CONNECT_LIMIT_USEC;
}

static void silent(Db *db, const char *what, uint64_t usec) {
    _cleanup_(freep) char *reason = NULL;
    char span[TIME_SPAN_SIZE];

    (void) string_printf(&reason, "%s within %s", what, time_format_span(usec, span));
    db_connection_lost(db, reason ? reason : "out of memory");
}

void db_connection_silent(Db *db) {
    silent(db, "no answer of the server", db->patience);
}

/* Sending failed; or an answer may be overdue. */
static void session_look(Db *db) {
    const uint64_t now = time_now_boottime(), end = db_patience_end(db);

    if (db->broken) {
        db_dispatch_answers(db); /* what arrived before the end is still true */
        if (db->up)
            db_connection_broken(db);
    } else if (now >= end)
        db_connection_silent(db);
    else if (end != UINT64_MAX)
        (void) db_timer_set(db, end - now);
}

static int on_timer(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
    Db *db = userdata;

    if (db->up)
        session_look(db);
    else if (db->conn)
        silent(db, "no answer to the connection attempt", connect_limit(db));
    else if (connect_start(db) < 0)
        db_connection_lost(db, "out of memory");
    return 0;
}

int db_timer_set(Db *db, uint64_t usec) {
    int r = 0;

    if (!db->timer)
        r = sd_event_add_time_relative(
            db->event, &db->timer, CLOCK_BOOTTIME, usec, USEC_PER_MSEC, on_timer, db);
    else
        r = sd_event_source_set_time_relative(db->timer, usec);
    return r < 0 ? r : sd_event_source_set_enabled(db->timer, SD_EVENT_ONESHOT);
}

void db_disconnect(Db *db) {
    db->up = db->broken = false;
    db->last_words = (free(db->last_words), NULL);
    db->resolve = resolve_free(db->resolve);
    db_hosts_done(&db->hosts);
    db->io = sd_event_source_disable_unref(db->io);
    if (db->conn)
        PQfinish(TAKE_PTR(db->conn));
    db->n_prepared = 0;
    db_error_done(&db->error);
    db->warned = false;
    PQclear(TAKE_PTR(db->kept));
}

void db_connection_lost(Db *db, const char *reason) {
    uint64_t wait = MIN(RETRY_FIRST_USEC << MIN(MAX(db->tries, 1U) - 1, 8U), RETRY_MAX_USEC);

    db_disconnect(db);
    /* Somewhere in the upper half, so that a restarted server is not met by everybody at once. */
    (void) db_timer_set(db, wait / 2 + random_u32() % (wait / 2));
    db_abandon_pending(db, reason);
    if (db->events->lost)
        db->events->lost(db, reason, db->userdata);
}

void db_last_words(Db *db, char *words) {
    free(db->last_words);
    db->last_words = words;
}

void db_connection_broken(Db *db) {
    _cleanup_(freep) char *reason = TAKE_PTR(db->last_words);

    if (!reason)
        reason = db_one_line(PQerrorMessage(db->conn));
    db_connection_lost(db, reason && *reason ? reason : "the connection was closed");
}

static void connection_up(Db *db) {
    (void) sd_event_source_set_enabled(db->timer, SD_EVENT_OFF);
    db->up = true;
    (void) PQsetNoticeReceiver(db->conn, db_on_notice, db);
    if (db_settings_send(db) < 0)
        db_connection_lost(db, "out of memory");
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
            socket_watch(db, EPOLLIN, db_on_io) >= 0) {
            connection_up(db);
            return 0;
        }
    } else if (poll != PGRES_POLLING_FAILED && connecting_watch(db, poll) >= 0)
        return 0;
    db_connection_broken(db);
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
    int r = db_timer_set(db, connect_limit(db));
    if (r < 0)
        return r;
    if (PQstatus(db->conn) == CONNECTION_BAD) {
        db_connection_broken(db);
        return 0;
    }
    return connecting_watch(db, PGRES_POLLING_WRITING);
}

static int connect_among(Db *db, const char *answer) {
    _cleanup_(db_addresses_done) DbAddresses a = {};

    int r = db_hosts_addresses(&db->hosts, answer, db->tries - 1, &a);
    if (r < 0 || a.n > 0)
        return r < 0 ? r : connect_to(db, &a);
    db_connection_lost(db, a.error);
    return 0;
}

static void on_resolved(const char *answer, void *userdata) {
    Db *db = userdata;

    int r = connect_among(db, answer);
    db->resolve = resolve_free(db->resolve);
    if (r < 0)
        db_connection_lost(db, "out of memory");
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
    db->tries++;
    if (!db->hosts.names[0])
        return db_hosts_is_list(&db->hosts) ? connect_among(db, "") : connect_to(db, NULL);
    r = resolve_start(&db->resolve, db->event, db->hosts.names, on_resolved, db);
    if (r == -ENOMEM)
        return r;
    if (r < 0) /* no process, no descriptor: try again */
        db_connection_lost(db, strerror(-r));
    return 0;
}

/* Once in a process. OpenSSL's own configuration may name providers that a static executable cannot load. */
void db_libraries_init(void) {
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
        *ret_error = db_one_line(error ? error : "out of memory");
    PQfreemem(error);
    return -EINVAL;
}

int db_conninfo_check(const char *conninfo, char **ret_error) {
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
