/* SPDX-License-Identifier: MIT */
#include "store/schema.h"

#include <stdio.h>

#include "base/util.h"
#include "schema-sql.h" /* made from sql/ at build time: roles_sql, migrations[] … */

/*
 * The lock class and key of migrations: pgmill.lock_class('migrate') does not exist before the first one.
 * pgmill.schema has one row for each migration; the newest one also names the functions that are installed.
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

static int installed(Db *db, unsigned *ret_version, bool *ret_functions, char **ret_error) {
    static const DbStatement statement = {
        .name = "schema_installed",
        .sql = "SELECT coalesce(max(version), 0), coalesce((array_agg(functions ORDER BY version DESC))[1], "
               "'') = $1 "
               "FROM pgmill.schema",
        .params = 1,
    };
    _cleanup_(db_rows_freep) DbRows *rows = NULL;

    int r = db_query(db, &statement, (const char *[]){ FUNCTIONS_DIGEST }, &rows, NULL, ret_error);
    if (r < 0)
        return r;
    *ret_version = (unsigned) db_int(rows, 0, 0);
    *ret_functions = db_bool(rows, 0, 1);
    return 0;
}

/* The next migration, if any, and with the last one the functions: one transaction, told of by a row. */
static int apply(Db *db, unsigned version, char **ret_error) {
    _cleanup_(buf_done) Buf script = {};

    if (version < schema_version())
        buf_printf(&script, "%s;\nINSERT INTO pgmill.schema (version, name) VALUES (%u, '%s');\n",
            migrations[version].sql, version + 1, migrations[version].name);
    if (version + 1 >= schema_version()) {
        for (size_t i = 0; i < ELEMENTS(functions); i++)
            buf_printf(&script, "%s;\n", functions[i].sql);
        buf_puts(&script, "SELECT pgmill.set_rights();\n");
        buf_printf(&script, "UPDATE pgmill.schema SET functions = '" FUNCTIONS_DIGEST "' WHERE version = %u;",
            schema_version());
    }
    return buf_error(&script) < 0 ? -ENOMEM : db_script(db, script.data, ret_error);
}

/* Without new functions, too: roles may have been made since. */
static int set_rights(Db *db, void (*progress)(const char *step), char **ret_error) {
    static const DbStatement statement = {
        .name = "set_rights", .sql = "SELECT pgmill.set_rights() > 0", .params = 0
    };
    _cleanup_(db_rows_freep) DbRows *rows = NULL;

    int r = db_query(db, &statement, NULL, &rows, NULL, ret_error);
    if (r >= 0 && db_bool(rows, 0, 0))
        progress("rights");
    return r;
}

int schema_migrate(Db *db, void (*progress)(const char *step), char **ret_error) {
    bool functions_match;
    unsigned version;

    int r = schema_make_roles(db, ret_error);
    if (r >= 0)
        r = db_script(db, PREPARE_SQL, ret_error);
    if (r < 0)
        return r;
    r = installed(db, &version, &functions_match, ret_error);
    if (r < 0)
        return r;
    if (version > schema_version()) {
        (void) string_printf(ret_error,
            "the database has schema %u, this executable knows %u: use a newer pgmill", version,
            schema_version());
        return -EPROTONOSUPPORT;
    }
    if (version == schema_version() && !functions_match) {
        r = apply(db, version, ret_error);
        if (r >= 0)
            progress("functions");
    }
    for (; r >= 0 && version < schema_version(); version++) {
        r = apply(db, version, ret_error);
        if (r >= 0)
            progress(migrations[version].name);
    }
    return r < 0 ? r : set_rights(db, progress, ret_error);
}
