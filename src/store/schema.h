/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The schema's version: numbered migrations and the functions that go with them, compiled into the executable.
 */
#include "store/db.h"

/* The newest migration compiled in. */
unsigned schema_version(void);

/* Asks for the database's version; the callback reads it with schema_version_of(): 0 when there is no schema yet
 * (an error reply, undefined table), -EAGAIN when the reply does not tell. */
int schema_check(Db *db, DbCallback callback, void *userdata);
int schema_version_of(const DbReply *reply);

/* For client verbs: waits for the version, 0 when there is no schema yet. Errors as db_query(). */
int schema_read(Db *db, unsigned *ret_version, char **ret_error);

/* What is told while it goes on. */
typedef struct SchemaEvents {
    void (*applied)(
        const char *step); /* "0001-tables", "functions", "rights"; not at all when there was nothing to do */
    void (*waiting)(const char *who); /* who holds a lock, before each pause */
} SchemaEvents;

/*
 * Brings the database of a db_open() connection to schema_version(). Ten at once do it once: an advisory lock. What is
 * installed as it should be is not touched. No lock is waited for longer than half a second at a time, with pauses in
 * between, for some minutes. -EPROTONOSUPPORT the database is newer than this executable; -EBUSY a lock was not to be had;
 * -EIO; *ret_error is a line to print.
 */
int schema_migrate(Db *db, const SchemaEvents *events, char **ret_error);

/* Makes the groups of roles that rights are given to, if who is connected may; schema_migrate() does it, too. Errors as
 * db_script(). */
int schema_make_roles(Db *db, char **ret_error);
