/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Calls of sql/functions/sql_task.sql, on a session of a task's own, and the one that interrupts such a session.
 */
#include "base/id.h"
#include "store/db.h"

typedef struct SqlTask {
    Id worker, id;
    int64_t claim_no;
    const char *statement; /* the handler's */
    const char *role;      /* or NULL */
    uint64_t timeout_usec; /* UINT64_MAX: none */
} SqlTask;

/* The reply's SQLSTATEs that mean more than "the statement failed". */
#define SQL_TASK_NOT_OWN   "PM002" /* the fence refused it: the task is no longer this worker's */
#define SQL_TASK_CANCELLED "57014" /* by statement_timeout or sql_task_interrupt() */
#define SQL_TASK_NEVER     "PM065" /* a handler's own, like the exit status 65: do not try again */
#define SQL_TASK_PUT_OFF   "PM075" /* a handler's own, like the exit status 75: later, without blame */

/* Performs the task and completes it, as one group: DB_OK says that both are committed. */
int sql_task_perform(Db *db, const SqlTask *task, DbCallback callback, void *userdata);

/* Through another session: cancels what the backend is doing. Needs the right to (pg_cancel_backend()). */
int sql_task_interrupt(Db *db, int backend_pid);
