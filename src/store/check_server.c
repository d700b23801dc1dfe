/* SPDX-License-Identifier: MIT */
/*
 * PostgreSQL itself, and what lies between it and this host.
 */
#include "store/check.h"

#include <time.h>

#include "store/schema.h"

/* A statement of a check that is more than one; what went wrong is what was found. NULL: it failed. */
static DbRows *ask(const CheckContext *c, const DbStatement *statement, const char *parameter, Buf *found) {
    _cleanup_(freep) char *error = NULL;
    DbRows *rows = NULL;

    int r = db_query(c->db, statement, statement->params ? &parameter : NULL, &rows, NULL, &error);
    if (r < 0)
        buf_puts(found, error ? error : strerror(-r));
    return r < 0 ? NULL : rows;
}

static CheckResult schema_look(_unused_ const Check *self, const CheckContext *c, Buf *found) {
    _cleanup_(freep) char *error = NULL;
    unsigned version;

    int r = schema_read(c->db, &version, &error);
    if (r < 0) {
        buf_puts(found, error ? error : strerror(-r));
        return CHECK_UNSEEN;
    }
    if (version == 0)
        buf_puts(found, "there is none yet");
    else
        buf_printf(found, "the database has schema %u, this executable needs %u", version, schema_version());
    if (version > schema_version())
        buf_puts(found, " or has to be upgraded");
    return version >= schema_version() ? CHECK_OK : CHECK_PROBLEM;
}

/* Twice, with a session's lock in between: a pooler may hand the same session out by chance, and tells the client a
 * process number of its own. */
static CheckResult pooler_look(_unused_ const Check *self, const CheckContext *c, Buf *found) {
    static const DbStatement lock = { "doctor_lock",
        "SELECT pg_backend_pid(), pg_try_advisory_lock(hashtext('pgmill doctor'), pg_backend_pid())", 0 };
    static const DbStatement unlock = { "doctor_unlock",
        "SELECT pg_backend_pid(), pg_advisory_unlock(hashtext('pgmill doctor'), pg_backend_pid())", 0 };
    _cleanup_(db_rows_freep) DbRows *first = ask(c, &lock, NULL, found);
    _cleanup_(db_rows_freep) DbRows *second = first ? ask(c, &unlock, NULL, found) : NULL;
    const DbRows *both[] = { first, second };

    if (!second)
        return CHECK_UNSEEN;
    for (size_t i = 0; i < ELEMENTS(both); i++)
        if (db_int(both[i], 0, 0) != db_backend_pid(c->db) || !db_bool(both[i], 0, 1)) {
            buf_puts(found,
                "there is a connection pooler on the way, and API and workers need sessions of their own");
            return CHECK_PROBLEM;
        }
    buf_puts(found, "none on the way");
    return CHECK_OK;
}

/* Waits for no standby: that is another question, and might take for ever. */
static CheckResult storing_look(_unused_ const Check *self, const CheckContext *c, Buf *found) {
    static const DbStatement statement = { "doctor_storing",
        "SELECT set_config('synchronous_commit', 'local', true), pgmill.rehearse(65536)", 0 };
    _cleanup_(freep) char *error = NULL;
    DbOutcome outcome;

    int r = db_query(c->db, &statement, NULL, NULL, &outcome, &error);
    buf_puts(found, r >= 0 ? "a task would be stored" : error ? error : strerror(-r));
    if (r < 0)
        return outcome == DB_RETRY || outcome == DB_LOCKED ? CHECK_PROBLEM : CHECK_UNSEEN;
    return CHECK_OK;
}

static double now(void) {
    struct timespec t = {};

    (void) clock_gettime(CLOCK_REALTIME, &t);
    return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

/* Between this host's clock before the question and after the answer, the database's should lie. */
static CheckResult clock_look(_unused_ const Check *self, const CheckContext *c, Buf *found) {
    static const DbStatement statement = { "doctor_clock",
        "SELECT extract(epoch FROM clock_timestamp())::float8", 0 };
    double before = now();
    _cleanup_(db_rows_freep) DbRows *rows = ask(c, &statement, NULL, found);
    double after = now();

    if (!rows)
        return CHECK_UNSEEN;
    double there = db_double(rows, 0, 0), apart = MAX(MAX(before - there, there - after), 0.0);
    if (apart < 1)
        buf_puts(found, "less than a second from this host's");
    else
        buf_printf(
            found, "the database's is %.0f s %s this host's", apart, there > after ? "ahead of" : "behind");
    return apart < 1 ? CHECK_OK : CHECK_WARNING;
}

static const char *parameter(const CheckContext *c, const char *keyword, char **ret) {
    (void) db_conninfo_get(c->config->database, keyword, ret, NULL);
    return *ret;
}

/* What a worker asks for (worker_session()), asked for here, and whether it took effect. */
static CheckResult keepalives_look(_unused_ const Check *self, const CheckContext *c, Buf *found) {
    static const DbStatement set = { "doctor_set_keepalives",
        "SELECT inet_server_addr() IS NULL, set_config('tcp_keepalives_idle', '2', false), "
        "set_config('tcp_user_timeout', '4000', false)",
        0 };
    static const DbStatement read = { "doctor_keepalives",
        "SELECT every(setting = CASE name WHEN 'tcp_keepalives_idle' THEN '2' ELSE '4000' END) "
        "FROM pg_settings WHERE name IN ('tcp_keepalives_idle', 'tcp_user_timeout')",
        0 };
    static const char *const own[] = { "keepalives", "keepalives_idle", "keepalives_interval",
        "keepalives_count", "tcp_user_timeout" };
    _cleanup_(db_rows_freep) DbRows *first = ask(c, &set, NULL, found);
    _cleanup_(db_rows_freep) DbRows *second = first ? ask(c, &read, NULL, found) : NULL;

    if (!second)
        return CHECK_UNSEEN;
    if (db_bool(first, 0, 0)) {
        buf_puts(found, "not needed: the connection does not leave this host");
        return CHECK_OK;
    }
    for (size_t i = 0; i < ELEMENTS(own); i++) {
        _cleanup_(freep) char *value = NULL;
        if (parameter(c, own[i], &value)) {
            buf_printf(found, "the URL sets %s=%s instead of pgmill's own", own[i], value);
            return CHECK_WARNING;
        }
    }
    if (!db_bool(second, 0, 0)) {
        buf_puts(found, "the server does not take them: a host that vanished is noticed late");
        return CHECK_WARNING;
    }
    buf_puts(found, "a host that vanished is noticed within 5 s");
    return CHECK_OK;
}

const Check server_checks[] = {
    {
        .name = "server",
        .look = check_by_sql,
        .database = true,
        .remedy = "upgrade the server to PostgreSQL 15 or newer",
        .statement = { "doctor_server",
            "SELECT CASE WHEN current_setting('server_version_num')::int >= 150000 THEN 'ok' ELSE 'problem' "
            "END, "
            "format('PostgreSQL %s, database %s, role %s', current_setting('server_version'), "
            "current_database(), current_user)",
            0 },
    },
    {
        .name = "primary",
        .look = check_by_sql,
        .database = true,
        .remedy = "name the primary in Url=, or all servers and target_session_attrs=read-write",
        .statement = { "doctor_primary",
            "SELECT CASE WHEN current_setting('transaction_read_only') = 'on' THEN 'problem' ELSE 'ok' END, "
            "CASE WHEN pg_is_in_recovery() THEN 'this server is a standby and takes no writes' "
            "WHEN current_setting('transaction_read_only') = 'on' THEN 'sessions are read-only' "
            "ELSE 'it takes writes' END",
            0 },
    },
    {
        .name = "storing",
        .look = storing_look,
        .database = true,
        .remedy = "make room on the server's disk, or end what holds the lock; GET /readyz is 503 until then",
    },
    {
        .name = "WAL",
        .look = check_by_sql,
        .database = true,
        .remedy =
            "mend archive_command, or drop the replication slot that has no reader: the server keeps all WAL "
            "for them until its disk is full",
        .statement = { "doctor_wal",
            "SELECT CASE WHEN a.failed OR s.slots IS NOT NULL THEN 'warning' ELSE 'ok' END, "
            "coalesce(nullif(concat_ws(', ', CASE WHEN a.failed THEN format('archiving failed last at %s', "
            "a.at) "
            "END, 'kept for ' || s.slots), ''), 'none is kept for too long') "
            "FROM (SELECT coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false) AS "
            "failed, "
            "date_trunc('second', last_failed_time) AS at FROM pg_stat_archiver) a, "
            "(SELECT string_agg(format('the replication slot %s', slot_name), ', ' ORDER BY slot_name) AS "
            "slots "
            "FROM pg_replication_slots WHERE NOT active AND wal_status <> 'reserved') s",
            0 },
    },
    {
        .name = "encoding",
        .look = check_by_sql,
        .database = true,
        .remedy = "make another database with ENCODING 'UTF8', as \"pgmill setup\" does",
        .statement = { "doctor_encoding",
            "SELECT CASE WHEN e = 'UTF8' THEN 'ok' ELSE 'problem' END, e FROM "
            "current_setting('server_encoding') e",
            0 },
    },
    {
        .name = "durability",
        .look = check_by_sql,
        .database = true,
        .remedy = "turn it on in postgresql.conf: what was acknowledged may be lost without",
        .statement = { "doctor_durability",
            "SELECT CASE WHEN count(*) > 0 THEN 'problem' ELSE 'ok' END, "
            "coalesce(string_agg(format('%s is %s', name, setting), ', '), 'commits are flushed to disk') "
            "FROM pg_settings WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off'",
            0 },
    },
    {
        .name = "autovacuum",
        .look = check_by_sql,
        .database = true,
        .remedy =
            "turn autovacuum and track_counts on in postgresql.conf: a queue without gets slower day by day",
        .statement = { "doctor_autovacuum",
            "SELECT CASE WHEN current_setting('autovacuum')::bool AND current_setting('track_counts')::bool "
            "THEN 'ok' ELSE 'problem' END, "
            "CASE WHEN current_setting('autovacuum')::bool AND current_setting('track_counts')::bool "
            "THEN 'on' ELSE 'off' END",
            0 },
    },
    {
        .name = "connections",
        .look = check_by_sql,
        .database = true,
        .remedy = "raise max_connections, or find out who holds so many",
        .statement = { "doctor_connections",
            "SELECT CASE WHEN n > 0.8 * most THEN 'warning' ELSE 'ok' END, format('%s of %s in use', n, "
            "most) "
            "FROM (SELECT count(*) AS n FROM pg_stat_activity WHERE backend_type = 'client backend') a, "
            "(SELECT current_setting('max_connections')::int AS most) b",
            0 },
    },
    {
        .name = "pooler",
        .look = pooler_look,
        .database = true,
        .remedy = "give API and workers the server's own address and port in Url= of the section [Database]",
    },
    {
        .name = "keepalives",
        .look = keepalives_look,
        .database = true,
        .remedy = "leave keepalives and tcp_user_timeout out of Url=, and let the server run on Linux",
    },
    {
        .name = "clock",
        .look = clock_look,
        .database = true,
        .remedy = "keep both in time, with systemd-timesyncd or chrony; tasks go by the database's clock, "
                  "logs by this "
                  "host's",
    },
    {
        .name = "schema",
        .look = schema_look,
        .database = true,
        .remedy = "run \"pgmill migrate\", or \"pgmill setup\"",
    },
    {},
};
