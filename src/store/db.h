/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A connection to PostgreSQL, driven by an sd-event loop: non-blocking, in pipeline mode, reconnecting by itself.
 * db.c is the only file that knows libpq. Knows nothing of tasks.
 *
 * Statements are sent in groups. A group is one transaction: it commits, or fails as a whole, at its db_sync().
 * Each statement's callback gets its rows before that commit; only the callback of db_sync() says that the
 * group is committed. Several groups may be under way; answers come in the order of sending.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

typedef struct Db Db;
typedef struct DbRows DbRows;

/* What became of a statement or a group. Decided in one place from the SQLSTATE. */
typedef enum DbOutcome {
    DB_OK = 0,
    DB_SKIPPED,        /* not run: an earlier statement of its group failed */
    DB_LOST,           /* the connection ended before the answer: nobody knows whether it happened */
    DB_RETRY,          /* deadlock, serialization, shutting down, too many connections, out of resources */
    DB_LOCKED,         /* lock_timeout (55P03) */
    DB_CONFLICT,       /* a unique key is taken (23505) */
    DB_INVALID,        /* the data is at fault: classes 22 and 23 */
    DB_UNKNOWN_WORKER, /* PM001: pgmill.claim and pgmill.finish refuse this worker */
    DB_FATAL,          /* anything else: a missing function, no privilege … */
} DbOutcome;

typedef struct DbReply {
    DbOutcome outcome;
    const char *sqlstate;   /* five characters, "" when there is none */
    const char *message;    /* one line for a log or a problem, "" when DB_OK */
    const char *constraint; /* name of the violated domain, constraint or column; "" if none */
    const DbRows *rows;     /* of a statement that is DB_OK, else NULL */
    bool warned;            /* of a group: the server says that its commit may not have been replicated */
} DbReply;
/* All of it is valid during the callback only. */

/* For a group that writes: one that was warned is as good as lost, since what it did may be on this server alone. */
static inline DbOutcome db_outcome(const DbReply *reply) {
    return reply->outcome == DB_OK && reply->warned ? DB_LOST : reply->outcome;
}

/* A callback may send more statements, and may db_free() the connection only from the loop, never from here. */
typedef void (*DbCallback)(Db *db, const DbReply *reply, void *userdata);

/* A prepared statement: a static object, prepared on each connection at its first use. */
typedef struct DbStatement {
    const char *name; /* unique in the process */
    const char *sql;
    unsigned params;
} DbStatement;

typedef struct DbEvents {
    /* A fresh session, with the settings of db_settings.c; nothing else was sent on it. */
    void (*connected)(Db *db, void *userdata);
    /* The session ended (every pending callback was told DB_LOST before) or could not be made: error says why in
     * one line. A new try follows by itself, after 100 ms growing to 2 s, jittered. */
    void (*lost)(Db *db, const char *error, void *userdata);
    void (*notified)(Db *db, const char *channel, const char *payload, void *userdata);
    /* The server sent a WARNING that puts no commit in doubt. One line; from inside libpq: log it, and no more. */
    void (*warned)(Db *db, const char *message, void *userdata);
    /* Instead of connected(): a pooler on the way shares the server's sessions out. NULL: any will do. */
    void (*pooled)(Db *db, void *userdata);
    bool writes; /* a server that takes no writes is no use: such a session is lost, at connect or later */
    /* Names without a schema are looked up as the role or the database has set it, for statements of others; those of pgmill
     * qualify them here. Else only the server's own are found. */
    bool role_path;
} DbEvents; /* each may be NULL */

/*
 * Starts connecting. conninfo: a libpq connection string or URI; "" means libpq's defaults. name: the
 * application_name, seen in pg_stat_activity. Sessions use TimeZone UTC and DateStyle ISO.
 * Errors: -EINVAL conninfo cannot be read (*ret_error, if asked for, says why; free it), -ENOMEM.
 */
int db_new(Db **ret, sd_event *event, const char *conninfo, const char *name, const DbEvents *events,
    void *userdata, char **ret_error);
Db *db_free(Db *db); /* returns NULL; pending callbacks are told DB_LOST */
void db_freep(Db **db);

/* An answer that comes later than so many microseconds after its question was sent is none, nor is a connection: nobody is
 * told of it, and the session is lost, as it is when nothing comes at all. From the next group or attempt on. 0, as at first:
 * answers are awaited without end, connections for 10 s. */
void db_patience(Db *db, uint64_t usec);

/* What a connection string or URI says about a keyword such as "host"; NULL when it is silent. Errors as above. */
int db_conninfo_get(const char *conninfo, const char *keyword, char **ret, char **ret_error);

bool db_is_connected(const Db *db);
int db_backend_pid(
    const Db *db); /* as the server told the client at connect; a pooler tells something else */

/* Ends the session at once and connects again after the usual wait; as if it had been lost for that reason. */
void db_reconnect(Db *db, const char *reason);

/*
 * Sends a statement; params are statement->params strings in text format, NULL for NULL; copied.
 * callback may be NULL. Errors (then the callback is never called): -ENOTCONN, -ENOMEM.
 */
int db_send(
    Db *db, const DbStatement *statement, const char *const params[], DbCallback callback, void *userdata);

/* Ends the group and sends it off. callback may be NULL; outcome is DB_OK if the group committed, else the
 * outcome of the statement that failed. Errors as db_send(). */
int db_sync(Db *db, DbCallback callback, void *userdata);

/* db_send() and db_sync() of one statement alone; the callback comes once, with the rows, after the commit was
 * acknowledged or with what went wrong. */
int db_call(
    Db *db, const DbStatement *statement, const char *const params[], DbCallback callback, void *userdata);

size_t db_pending(const Db *db); /* groups under way */

/* Rows. value: text, NUL-terminated, NULL for SQL NULL. Valid as long as the rows. */
size_t db_rows(const DbRows *rows);
const char *db_value(const DbRows *rows, size_t row, unsigned column);
size_t db_length(const DbRows *rows, size_t row, unsigned column);
int64_t db_int(const DbRows *rows, size_t row, unsigned column);   /* 0 for NULL */
double db_double(const DbRows *rows, size_t row, unsigned column); /* 0 for NULL */
bool db_bool(const DbRows *rows, size_t row, unsigned column);     /* false for NULL */

/*
 * For client verbs: the same connection with a loop of its own, one thing at a time, waiting for each answer
 * (db_wait.c), a minute at most. On error *ret_error is one line to print (free it): -ENOTCONN cannot connect, the connection
 * was lost, or the commit may not have been replicated; -EIO the statement failed.
 */
int db_open(Db **ret, const char *conninfo, const char *name, char **ret_error); /* tries once */
/* The same, but root, who is nobody to PostgreSQL, connects as the services do, where their user exists. */
#define SERVICE_USER "pgmill"
int db_open_as_service(Db **ret, const char *conninfo, const char *name, char **ret_error);
/* The rows are the caller's: db_rows_free(). ret_rows and ret_outcome may be NULL. */
int db_query(Db *db, const DbStatement *statement, const char *const params[], DbRows **ret_rows,
    DbOutcome *ret_outcome, char **ret_error);
/* A script of several statements without parameters, one transaction unless it says otherwise. Blocks; nothing may be under
 * way. -EBUSY: a lock was not to be had within lock_timeout. */
int db_script(Db *db, const char *sql, char **ret_error);

sd_event *db_event(Db *db);
/* Inside the callback of db_call(): the reply's rows become the caller's; NULL if there are none. */
DbRows *db_take_rows(Db *db);
DbRows *db_rows_free(DbRows *rows); /* returns NULL */
void db_rows_freep(DbRows **rows);
