/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Client verbs, one file each. They speak to the database: one statement and out; or, for users whom it does not let in,
 * to the API (way.h).
 */
#include "base/config.h"
#include "base/verb.h"
#include "store/db.h"

extern const Verb cancel_verb, list_verb, local_verb, migrate_verb, pause_verb, prune_verb, queues_verb,
    resume_verb, retry_verb, show_verb, stats_verb, submit_verb, version_verb, workers_verb;

/* What every client verb begins with. Logs what went wrong; returns an exit status of sysexits.h, EX_OK: go on. */
int cli_connect(const Config *config, Db **ret);
int cli_open(const Config *config, Db **ret, char **ret_error); /* as db_open(), for root too */

/* Logs "Cannot VERB: error", frees error, and returns the exit status for it. */
int cli_failed(const char *verb, int r, char *error);

/* Prints one row of TASK columns, beginning at column `first`, as a line of JSON. */
int cli_print_task(const DbRows *rows, size_t row, unsigned first);
