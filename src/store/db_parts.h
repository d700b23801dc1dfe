/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What db.c (what is sent and answered) and db_connect.c (whether there is a connection) share.
 */
#include "base/resolve.h"
#include "store/db_hosts.h"
#include "store/db_reply.h"

#define STATEMENTS_MAX 64 /* kinds of statements one session may use */

typedef enum PendingKind {
    PENDING_PREPARE,
    PENDING_STATEMENT,
    PENDING_SYNC,
} PendingKind;

typedef struct Pending {
    PendingKind kind;
    bool keep_rows; /* db_call(): the rows wait for the sync */
    bool answered;  /* libpq ends each statement's results with a NULL */
    uint64_t sent;  /* CLOCK_BOOTTIME */
    const DbStatement *statement;
    DbCallback callback;
    void *userdata;
} Pending;

struct Db {
    sd_event *event;
    sd_event_source *io, *timer;
    Resolve *resolve;
    DbHosts hosts; /* being resolved */
    PGconn *conn;
    bool up, broken;   /* broken: libpq refused to send; the session ends with the loop's next turn */
    unsigned tries;    /* to connect, since the last session that could be used */
    uint64_t patience; /* 0: without end */
    char *last_words;  /* why the session ends, from who knows best */
    char *conninfo, *name;
    char *session[2]; /* the last one: process and start of its backend */
    const DbEvents *events;
    void *userdata;

    Pending *pending; /* a ring */
    size_t pending_first, pending_count, pending_size, groups;

    const DbStatement *prepared[STATEMENTS_MAX];
    size_t n_prepared;

    DbError error;
    bool warned;
    PGresult *kept;
};

/* ---- db.c ---- */

int db_on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata); /* while it is up */
void db_on_notice(void *userdata, const PGresult *res);
void db_dispatch_answers(Db *db); /* those that have arrived, and in time */
void db_abandon_pending(Db *db, const char *reason);
uint64_t db_patience_end(const Db *db); /* CLOCK_BOOTTIME; UINT64_MAX: without end */

/* ---- db_connect.c ---- */

void db_libraries_init(void);
int db_conninfo_check(const char *conninfo, char **ret_error);
int db_timer_set(Db *db, uint64_t usec); /* the next try, or look whether the session can still be used */
void db_disconnect(Db *db);
void db_last_words(Db *db, char *words);             /* takes them; NULL: no memory */
void db_connection_lost(Db *db, const char *reason); /* tells all who wait, and tries again later */
void db_connection_silent(Db *db);                   /* the same; no answer came in time */
void db_connection_broken(Db *db);                   /* the same; the server or libpq has said why */

/* ---- db_settings.c ---- */

/* The first statements of a session. Their answer says that it is connected, or ends it. Errors as db_send(). */
int db_settings_send(Db *db);
