/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What "pgmill doctor" looks at: one row a check. Each floor that knows something an operator could get wrong exports a
 * table; an empty row ends it.
 */
#include "base/config.h"
#include "store/db.h"

typedef enum CheckResult {
    CHECK_OK,
    CHECK_WARNING, /* it works, and could go wrong */
    CHECK_PROBLEM, /* it does not work, or something may be lost */
    CHECK_UNSEEN,  /* whoever asks cannot tell, or there is nothing to see */
    _CHECK_RESULT_MAX,
} CheckResult;

typedef struct CheckContext {
    const Config *config;
    Db *db;           /* db_open(); NULL: out of reach, and then no check with a statement is asked */
    bool as_services; /* whoever asks may do what they may: what is forbidden is so to them */
} CheckContext;

typedef struct Check Check;
struct Check {
    const char *name;
    /* Writes what it found, no sentence and no newline, to found. */
    CheckResult (*look)(const Check *self, const CheckContext *c, Buf *found);
    const char *remedy; /* what to do about a warning or a problem */
    bool database;      /* needs one */
    bool configured;    /* goes by the configuration, and so not for who may not read it */
    DbStatement
        statement; /* of check_by_sql(): answers "ok", "warning", "problem" or "unseen", and what it found */
};

CheckResult check_by_sql(const Check *self, const CheckContext *c, Buf *found);

extern const Check server_checks[]; /* PostgreSQL and the way to it */
extern const Check state_checks[];  /* what lies and lives in the database */

const char *check_result_to_string(CheckResult r);
