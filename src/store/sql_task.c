/* SPDX-License-Identifier: MIT */
#include "store/sql_task.h"

#include <stdio.h>

#include "base/util.h"

#define TIMEOUT_MAX_MSEC INT32_MAX /* of statement_timeout, which takes 0 for none */

int sql_task_perform(Db *db, const SqlTask *task, DbCallback callback, void *userdata) {
    /* A statement of its own: the clock of the next one starts with what holds when it arrives. */
    static const DbStatement timeout_statement = { .name = "sql_timeout",
        .sql = "SELECT pg_catalog.set_config('statement_timeout', $1, true)",
        .params = 1 };
    static const DbStatement statement = {
        .name = "perform", .sql = "SELECT pgmill.perform($1, $2, $3, $4, $5)", .params = 5
    };
    uint64_t msec = (task->timeout_usec - 1) / USEC_PER_MSEC + 1;
    char worker[ID_TEXT_SIZE], id[ID_TEXT_SIZE], claim_no[24], timeout[24];

    (void) snprintf(
        timeout, sizeof(timeout), "%ju", msec > TIMEOUT_MAX_MSEC ? (uintmax_t) 0 : (uintmax_t) msec);
    (void) snprintf(claim_no, sizeof(claim_no), "%jd", (intmax_t) task->claim_no);
    const char *params[] = { id_format(task->worker, worker), id_format(task->id, id), claim_no,
        task->statement, task->role };
    int r = db_send(db, &timeout_statement, (const char *[]){ timeout }, NULL, NULL);
    if (r >= 0)
        r = db_send(db, &statement, params, NULL, NULL);
    return r < 0 ? r : db_sync(db, callback, userdata);
}

int sql_task_interrupt(Db *db, int backend_pid) {
    static const DbStatement statement = {
        .name = "interrupt", .sql = "SELECT pg_cancel_backend($1)", .params = 1
    };
    char pid[16];

    (void) snprintf(pid, sizeof(pid), "%d", backend_pid);
    return db_call(db, &statement, (const char *[]){ pid }, NULL, NULL);
}
