/* SPDX-License-Identifier: MIT */
#include "store/check.h"

static const char *const results[_CHECK_RESULT_MAX] = {
    [CHECK_OK] = "ok",
    [CHECK_WARNING] = "warning",
    [CHECK_PROBLEM] = "problem",
    [CHECK_UNSEEN] = "unseen",
};

const char *check_result_to_string(CheckResult r) {
    return results[r];
}

CheckResult check_by_sql(const Check *self, const CheckContext *c, Buf *found) {
    _cleanup_(db_rows_freep) DbRows *rows = NULL;
    _cleanup_(freep) char *error = NULL;

    int r = db_query(c->db, &self->statement, NULL, &rows, NULL, &error);
    if (r < 0) {
        buf_puts(found, error ? error : strerror(-r));
        return CHECK_UNSEEN;
    }
    const char *text = db_value(rows, 0, 1);
    buf_puts(found, text ? text : "");
    for (CheckResult i = CHECK_OK; i < _CHECK_RESULT_MAX; i++)
        if (streq(db_value(rows, 0, 0), results[i]))
            return i;
    return CHECK_UNSEEN;
}
