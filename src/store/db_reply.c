/* SPDX-License-Identifier: MIT */
/*
 * What a result of libpq says: its rows, and what kind of failure it is.
 */
#include "store/db_reply.h"

#include <ctype.h>
#include <stdio.h>

#include "base/util.h"

/* ---- rows ---- */

static const PGresult *result(const DbRows *rows) {
    return (const PGresult *) rows;
}

size_t db_rows(const DbRows *rows) {
    return rows ? (size_t) PQntuples(result(rows)) : 0;
}

const char *db_value(const DbRows *rows, size_t row, unsigned column) {
    if (PQgetisnull(result(rows), (int) row, (int) column))
        return NULL;
    return PQgetvalue(result(rows), (int) row, (int) column);
}

size_t db_length(const DbRows *rows, size_t row, unsigned column) {
    return (size_t) PQgetlength(result(rows), (int) row, (int) column);
}

int64_t db_int(const DbRows *rows, size_t row, unsigned column) {
    return strtoll(PQgetvalue(result(rows), (int) row, (int) column), NULL, 10);
}

double db_double(const DbRows *rows, size_t row, unsigned column) {
    return strtod(PQgetvalue(result(rows), (int) row, (int) column), NULL);
}

bool db_bool(const DbRows *rows, size_t row, unsigned column) {
    return PQgetvalue(result(rows), (int) row, (int) column)[0] == 't';
}

DbRows *db_rows_free(DbRows *rows) {
    PQclear((PGresult *) rows);
    return NULL;
}

void db_rows_freep(DbRows **rows) {
    db_rows_free(*rows);
}

/* ---- outcomes ---- */

static DbOutcome outcome_of(const char *sqlstate) {
    static const struct {
        const char *prefix;
        DbOutcome outcome;
    } table[] = {
        { "40", DB_RETRY },    /* deadlock, serialization */
        { "53", DB_RETRY },    /* out of memory, disk, connections, locks */
        { "57P", DB_RETRY },   /* shutting down, crashed, starting up */
        { "58", DB_RETRY },    /* system error: I/O */
        { "25006", DB_RETRY }, /* read-only: a standby, until it is promoted or left */
        { "55P03", DB_LOCKED },
        { "23505", DB_CONFLICT },
        { "22", DB_INVALID },
        { "23", DB_INVALID },
        { "54", DB_INVALID }, /* a row or a value too large */
        { "PM001", DB_UNKNOWN_WORKER },
    };

    for (size_t i = 0; i < ELEMENTS(table); i++)
        if (strncmp(sqlstate, table[i].prefix, strlen(table[i].prefix)) == 0)
            return table[i].outcome;
    return DB_FATAL;
}

char *db_one_line(const char *message) {
    char *line = strdup(message ? message : "");

    if (!line)
        return NULL;
    char *end = line;
    for (const char *p = line; *p; p++) {
        const bool space = isspace((unsigned char) *p);
        if (!space || (end > line && end[-1] != ' '))
            *end++ = space ? ' ' : *p;
    }
    while (end > line && end[-1] == ' ')
        end--;
    *end = '\0';
    return line;
}

void db_error_done(DbError *e) {
    free(e->message);
    free(e->constraint);
    *e = (DbError){};
}

const char *db_error_field(const PGresult *res, int field) {
    const char *s = PQresultErrorField(res, field);
    return s ? s : "";
}

char *db_error_text(const PGresult *res) {
    const char *detail = db_error_field(res, PG_DIAG_MESSAGE_DETAIL);
    _cleanup_(freep) char *text = NULL;

    if (string_printf(
            &text, "%s%s%s", db_error_field(res, PG_DIAG_MESSAGE_PRIMARY), *detail ? ": " : "", detail) < 0)
        return NULL;
    return db_one_line(text);
}

/* SyncRepWaitForLSN() of the server. One that does not say where its warning is from is not trusted. */
bool db_is_doubt(const PGresult *res) {
    const char *sqlstate = db_error_field(res, PG_DIAG_SQLSTATE),
               *file = db_error_field(res, PG_DIAG_SOURCE_FILE);

    return streq(db_error_field(res, PG_DIAG_SEVERITY_NONLOCALIZED), "WARNING") &&
           (streq(sqlstate, "01000") || streq(sqlstate, "57P01")) && (!*file || streq(file, "syncrep.c"));
}

void db_error_set(DbError *e, const PGresult *res) {
    static const int culprits[] = { PG_DIAG_DATATYPE_NAME, PG_DIAG_CONSTRAINT_NAME, PG_DIAG_COLUMN_NAME };
    const char *culprit = "", *sqlstate = db_error_field(res, PG_DIAG_SQLSTATE);

    db_error_done(e);
    for (size_t i = 0; i < ELEMENTS(culprits) && !*culprit; i++)
        culprit = db_error_field(res, culprits[i]);
    e->outcome = outcome_of(sqlstate);
    (void) snprintf(e->sqlstate, sizeof(e->sqlstate), "%s", sqlstate);
    e->constraint = strdup(culprit);
    e->message = db_error_text(res);
}

DbReply db_error_reply(const DbError *e) {
    return (DbReply){
        .outcome = e->outcome,
        .sqlstate = e->sqlstate,
        .message = e->message ? e->message : "",
        .constraint = e->constraint ? e->constraint : "",
    };
}
