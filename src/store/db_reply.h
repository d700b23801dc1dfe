/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Inside of db.c: errors of libpq as outcomes (PostgreSQL manual, appendix A: SQLSTATE).
 */
#include <libpq-fe.h>

#include "store/db.h"

/* The first error of the group that is being answered. */
typedef struct DbError {
    DbOutcome outcome;
    char sqlstate[6];
    char *message, *constraint;
} DbError;

void db_error_set(DbError *e, const PGresult *res); /* from a result that failed; replaces what e holds */
void db_error_done(DbError *e);
DbReply db_error_reply(const DbError *e); /* points into e */

/* A field of a result's error (PG_DIAG_*); "" where it has none. */
const char *db_error_field(const PGresult *res, int field);

/* What the server says of an error or a warning: one line. The caller frees it; NULL: no memory. */
char *db_error_text(const PGresult *res);

/* A warning that a commit may not have been replicated. Told by the place in the server that sends it: the text comes in
 * the server's language. */
bool db_is_doubt(const PGresult *res);

/* libpq's messages may span lines; a log line and a problem's detail may not. The caller frees it; NULL: no memory. */
char *db_one_line(const char *message);
