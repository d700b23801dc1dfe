/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdio.h>

#include "base/time.h"
#include "store/task.h"

/* NULL in SQL: for ever. */
static const char *interval(uint64_t usec, char text[static 32]) {
    if (usec == UINT64_MAX)
        return NULL;
    (void) snprintf(text, 32, "%" PRIu64 " seconds", usec / USEC_PER_SEC);
    return text;
}

int task_prune(Db *db, const TaskRetention *retention, uint64_t *ret_gone, char **ret_error) {
    static const DbStatement statement = {
        .name = "prune",
        .sql = "SELECT next, gone FROM pgmill.prune($1, $2, $3, $4, 1000)",
        .params = 4,
    };
    char completed[32], cancelled[32], failed[32];
    _cleanup_(freep) char *after = NULL;
    uint64_t gone = 0;

    for (;;) {
        _cleanup_(db_rows_freep) DbRows *rows = NULL;
        const char *const params[] = { interval(retention->completed_usec, completed),
            interval(retention->cancelled_usec, cancelled), interval(retention->failed_usec, failed), after };
        int r = db_query(db, &statement, params, &rows, NULL, ret_error);
        if (r < 0)
            return r;
        gone += (uint64_t) db_int(rows, 0, 1);
        const char *next = db_value(rows, 0, 0);
        if (!next)
            break;
        r = string_replace(&after, next);
        if (r < 0)
            return r;
    }
    *ret_gone = gone;
    return 0;
}
