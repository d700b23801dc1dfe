/* SPDX-License-Identifier: MIT */
#include "store/schema.h"

#include <stdio.h>
#include <unistd.h>

#include "base/util.h"
#include "schema-sql.h" /* made from sql/ at build time: roles_sql, migrations[], functions[] */
#include "store/array.h"

#define LOCK_TIMEOUT_MSEC 500
#define LOCK_PAUSE_SEC    2
#define LOCK_TRIES        60

/*
 * The lock class and key of migrations: pgmill.lock_class('migrate') does not exist before the first one.
 * pgmill.schema has one row for each migration; the newest one also has the digests of the functions that are installed.
 * Everything belongs to the schema's owner, whoever of its members migrates.
 */
#define PREPARE_SQL                                                                          \
    "SET client_min_messages = warning; SET lock_timeout = 0;"                               \
    "SELECT pg_advisory_lock(1886219620, 0);"                                                \
    "DO $$ BEGIN IF to_regnamespace('pgmill') IS NULL THEN CREATE SCHEMA pgmill; END IF; "   \
    "END $$;"                                                                                \
    "SELECT set_config('role', pg_get_userbyid(nspowner), false) FROM pg_namespace "         \
    "WHERE nspname = 'pgmill' AND nspowner <> current_user::regrole;"                        \
    "CREATE TABLE IF NOT EXISTS pgmill.schema (version int PRIMARY KEY, name text NOT NULL," \
    " functions text, applied_at timestamptz NOT NULL DEFAULT clock_timestamp());"

int schema_make_roles(Db *db, char **ret_error) {
    return db_script(db, roles_sql, ret_error);
}

unsigned schema_version(void) {
    return (unsigned) ELEMENTS(migrations);
}

int schema_check(Db *db, DbCallback callback, void *userdata) {
    static const DbStatement statement = {
        .name = "schema_check", .sql = "SELECT coalesce(max(version), 0) FROM pgmill.schema", .params = 0
    };
    return db_call(db, &statement, NULL, callback, userdata);
}

int schema_version_of(const DbReply *reply) {
    if (reply->outcome == DB_OK)
        return (int) db_int(reply->rows, 0, 0);
    return streq(reply->sqlstate, "42P01") ? 0 : -EAGAIN; /* undefined table */
}

int schema_read(Db *db, unsigned *ret_version, char **ret_error) {
    static const DbStatement look = {
        .name = "schema_exists", .sql = "SELECT to_regclass('pgmill.schema') IS NOT NULL", .params = 0
    };
    static const DbStatement read = {
        .name = "schema_read", .sql = "SELECT coalesce(max(version), 0) FROM pgmill.schema", .params = 0
    };
    _cleanup_(db_rows_freep) DbRows *there = NULL, *rows = NULL;

    *ret_version = 0;
    int r = db_query(db, &look, NULL, &there, NULL, ret_error);
    if (r < 0 || !db_bool(there, 0, 0))
        return r;
    r = db_query(db, &read, NULL, &rows, NULL, ret_error);
    if (r >= 0)
        *ret_version = (unsigned) db_int(rows, 0, 0);
    return r;
}

/* ---- functions ---- */

/* Which of functions[] are not installed as they are here, by their place: those that this release has changed, and those
 * whose body is another or that are not there at all, whatever was noted. */
static int functions_stale(Db *db, DbRows **ret, char **ret_error) {
    static const DbStatement statement = {
        .name = "schema_stale",
        .sql =
            "SELECT n - 1 FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY "
            "AS s (digest, kind, name, body, n) "
            "WHERE (s.digest = ANY (string_to_array((SELECT functions FROM pgmill.schema "
            "ORDER BY version DESC LIMIT 1), ' ')) "
            "AND CASE s.kind WHEN '' THEN true WHEN 'VIEW' THEN to_regclass('pgmill.' || s.name) IS NOT NULL "
            "ELSE EXISTS (SELECT FROM pg_proc p WHERE p.pronamespace = 'pgmill'::regnamespace "
            "AND p.proname = s.name AND s.body IN ('', encode(sha256(convert_to(p.prosrc, 'UTF8')), 'hex'))) "
            "END) "
            "IS NOT TRUE ORDER BY n",
        .params = 4,
    };
    Buf arrays[4] = {};
    const char *params[4];
    int r = 0;

    for (size_t i = 0; i < ELEMENTS(functions); i++) {
        array_add(&arrays[0], functions[i].digest);
        array_add(&arrays[1], functions[i].kind);
        array_add(&arrays[2], functions[i].name);
        array_add(&arrays[3], functions[i].body);
    }
    for (size_t i = 0; i < ELEMENTS(arrays); i++) {
        params[i] = array_literal(&arrays[i]);
        if (buf_error(&arrays[i]) < 0)
            r = -ENOMEM;
    }
    if (r >= 0)
        r = db_query(db, &statement, params, ret, NULL, ret_error);
    for (size_t i = 0; i < ELEMENTS(arrays); i++)
        buf_done(&arrays[i]);
    return r;
}

static void functions_script(const DbRows *stale, Buf *ret) {
    for (size_t i = 0; i < db_rows(stale); i++)
        buf_puts(ret, functions[db_int(stale, i, 0)].sql);
    buf_puts(ret, "UPDATE pgmill.schema SET functions = '");
    for (size_t i = 0; i < ELEMENTS(functions); i++)
        buf_printf(ret, "%s%s", i > 0 ? " " : "", functions[i].digest);
    buf_printf(ret, "' WHERE version = %u;\n", schema_version());
}

/* ---- migrating ---- */

/* The next migration, if any, and with the last one the functions: one transaction, told of by a row. > 0: it did something. */
static int apply(Db *db, unsigned version, char **ret_error) {
    _cleanup_(db_rows_freep) DbRows *stale = NULL;
    _cleanup_(buf_done) Buf begin = {}, end = {};
    bool migration = version < schema_version();

    buf_printf(&begin, "BEGIN; SET LOCAL lock_timeout = '%d ms';\n", LOCK_TIMEOUT_MSEC);
    if (migration)
        buf_printf(&begin, "%s;\nINSERT INTO pgmill.schema (version, name) VALUES (%u, '%s');\n",
            migrations[version].sql, version + 1, migrations[version].name);
    int r = buf_error(&begin) < 0 ? -ENOMEM : db_script(db, begin.data, ret_error);
    if (r >= 0 && version + 1 >= schema_version()) {
        r = functions_stale(db, &stale, ret_error);
        if (r >= 0 && (migration || db_rows(stale) > 0)) {
            functions_script(stale, &end);
            buf_puts(&end, "SELECT pgmill.set_rights();\n");
        }
    }
    if (r >= 0)
        buf_puts(&end, "COMMIT;\n");
    if (r >= 0)
        r = buf_error(&end) < 0 ? -ENOMEM : db_script(db, end.data, ret_error);
    if (r < 0) {
        _cleanup_(freep) char *ignored = NULL;
        (void) db_script(db, "ROLLBACK", &ignored);
    }
    return r < 0 ? r : migration || db_rows(stale) > 0;
}

/* Of the sessions that were in a transaction for the whole time that a lock was waited for, those that hold one of ours. */
static int blockers(Db *db, char **ret, char **ret_error) {
    static const DbStatement statement = {
        .name = "schema_blockers",
        .sql =
            "SELECT coalesce(string_agg(who, '; '), 'a session that is gone by now') FROM (SELECT DISTINCT "
            "coalesce(format('process %s of role %s%s%s', a.pid, a.usename, "
            "' (' || nullif(a.application_name, '') || ')', "
            "format(', %s, its transaction began at %s', a.state, a.xact_start)), "
            "'a prepared transaction') AS who "
            "FROM pg_locks l JOIN pg_class c ON c.oid = l.relation AND c.relnamespace = "
            "'pgmill'::regnamespace "
            "LEFT JOIN pg_stat_activity a ON a.pid = l.pid "
            "WHERE l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = "
            "current_database()) "
            "AND l.pid IS DISTINCT FROM pg_backend_pid() "
            "AND coalesce(a.xact_start < clock_timestamp() - make_interval(secs => $1), true) "
            "ORDER BY 1 LIMIT 5) b",
        .params = 1,
    };
    _cleanup_(db_rows_freep) DbRows *rows = NULL;
    char seconds[16];

    (void) snprintf(seconds, sizeof(seconds), "%.3f", LOCK_TIMEOUT_MSEC / 1e3);
    int r = db_query(db, &statement, (const char *[]){ seconds }, &rows, NULL, ret_error);
    return r < 0 ? r : string_replace(ret, db_value(rows, 0, 0));
}

/* Whoever comes after a migration in the line for a lock waits as long as it does: it asks for short times only. */
static int apply_patiently(Db *db, unsigned version, const SchemaEvents *events, char **ret_error) {
    int r;

    for (unsigned tries = 0; (r = apply(db, version, ret_error)) == -EBUSY; tries++) {
        _cleanup_(freep) char *who = NULL;
        free(TAKE_PTR(*ret_error));
        r = blockers(db, &who, ret_error);
        if (r < 0)
            return r;
        if (tries == LOCK_TRIES) {
            (void) string_printf(
                ret_error, "a lock on pgmill's tables is held by %s: end it, and repeat this", who);
            return -EBUSY;
        }
        events->waiting(who);
        (void) sleep(LOCK_PAUSE_SEC);
    }
    return r;
}

/* Without new functions, too: roles may have been made since. */
static int set_rights(Db *db, const SchemaEvents *events, char **ret_error) {
    static const DbStatement statement = {
        .name = "set_rights", .sql = "SELECT pgmill.set_rights() > 0", .params = 0
    };
    _cleanup_(db_rows_freep) DbRows *rows = NULL;

    int r = db_query(db, &statement, NULL, &rows, NULL, ret_error);
    if (r >= 0 && db_bool(rows, 0, 0))
        events->applied("rights");
    return r;
}

int schema_migrate(Db *db, const SchemaEvents *events, char **ret_error) {
    unsigned version;

    int r = schema_make_roles(db, ret_error);
    if (r >= 0)
        r = db_script(db, PREPARE_SQL, ret_error);
    if (r >= 0)
        r = schema_read(db, &version, ret_error);
    if (r < 0)
        return r;
    if (version > schema_version()) {
        (void) string_printf(ret_error,
            "the database has schema %u, this executable knows %u: use a newer pgmill", version,
            schema_version());
        return -EPROTONOSUPPORT;
    }
    do {
        r = apply_patiently(db, version, events, ret_error);
        if (r > 0)
            events->applied(version < schema_version() ? migrations[version].name : "functions");
    } while (r >= 0 && ++version < schema_version());
    return r < 0 ? r : set_rights(db, events, ret_error);
}
