/* SPDX-License-Identifier: MIT */
/*
 * The settings that the promises of every session rest on, whatever the server, the database or the role has set.
 * Everything else is left to them.
 */
#include "base/util.h"
#include "store/db_parts.h"

/* A pooler tells the client a process number of its own; and its sessions have statements that another client prepared,
 * or lack those that this one did. */
static bool is_pooled(const Db *db, const DbReply *reply) {
    if (reply->outcome == DB_OK)
        return db_int(reply->rows, 0, 0) != db_backend_pid(db);
    return streq(reply->sqlstate, "42P05") || streq(reply->sqlstate, "26000");
}

static void on_set(Db *db, const DbReply *reply, _unused_ void *userdata) {
    if (reply->outcome == DB_LOST)
        return;
    for (size_t i = 0; reply->outcome == DB_OK && i < ELEMENTS(db->session); i++)
        (void) string_replace(&db->session[i], db_value(reply->rows, 0, i == 0 ? 0 : 3));
    if (db->events->pooled && is_pooled(db, reply))
        db->events->pooled(db, db->userdata);
    else if (reply->outcome != DB_OK)
        db_reconnect(db, reply->message);
    else if (db->events->writes && db_bool(reply->rows, 0, 1))
        db_reconnect(db, "the server takes no writes: it is a standby, or sessions are read-only");
    else {
        db->tries = 0;
        if (db->events->connected)
            db->events->connected(db, db->userdata);
    }
}

/* Before all else, since whoever owns the database chooses where names are looked up, and could put functions of his own in
 * front of the server's, which would act with the rights of this session. */
static int path_send(Db *db) {
    static const DbStatement statement = { .name = "path",
        .sql = "SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', $1)",
        .params = 1 };
    const bool only_now = db->events->role_path;

    return db_send(db, &statement, (const char *[]){ only_now ? "true" : "false" }, NULL, NULL);
}

int db_settings_send(Db *db) {
    static const DbStatement statement = {
        .name = "settings",
        .sql = "SELECT pg_backend_pid(), current_setting('transaction_read_only')::bool, "
               "count(set_config(p.name, p.value, false)), "
               "(SELECT s.backend_start FROM pg_stat_activity s WHERE s.pid = pg_backend_pid()), "
               /* One that was given up may go on waiting for a lock or a standby; it would keep its place. */
               "(SELECT count(pg_terminate_backend(f.pid)) FROM pg_stat_activity f "
               "WHERE f.pid = $1::int AND f.backend_start = $2::timestamptz) FROM (VALUES "
               /* What was acknowledged is on disk; and that its copy is not, is said by a warning. */
               "('synchronous_commit', CASE WHEN current_setting('synchronous_commit') IN ('off', 'local') "
               "THEN 'on' ELSE current_setting('synchronous_commit') END), "
               "('client_min_messages', 'warning'), "
               /* A session, and a lock that it holds, ends when its process does. */
               "('idle_session_timeout', '0'), ('idle_in_transaction_session_timeout', '0'), "
               "('transaction_timeout', '0'), ('statement_timeout', '0'), ('lock_timeout', '0'), "
               /* The functions look again after a lock. */
               "('default_transaction_isolation', 'read committed'), "
               /* What is stored is what was said, and what is read is what was stored. */
               "('extra_float_digits', '1'), ('bytea_output', 'hex'), ('array_nulls', 'on'), "
               "('transform_null_equals', 'off'), ('standard_conforming_strings', 'on')"
               ") p (name, value) JOIN pg_settings s ON s.name = p.name WHERE s.setting <> p.value",
        .params = 2,
    };
    int r = path_send(db);
    return r < 0 ? r : db_call(db, &statement, (const char *const *) db->session, on_set, NULL);
}
