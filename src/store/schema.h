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

/*
 * Brings the database of a db_open() connection to schema_version(). progress is called with each step done
 * ("applied 0001-tables") and not at all when there was nothing to do. Ten at once do it once: an advisory lock.
 * -EPROTONOSUPPORT the database is newer than this executable; -EIO; *ret_error is a line to print.
 */
int schema_migrate(Db *db, void (*progress)(const char *step), char **ret_error);

/* Makes the groups of roles that rights are given to, if who is connected may; schema_migrate() does it, too. Errors as
 * db_script(). */
int schema_make_roles(Db *db, char **ret_error);
