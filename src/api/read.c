/* SPDX-License-Identifier: MIT */
#include "api/read.h"

#include "api/answer.h"
#include "api/ask.h"
#include "api/failure.h"
#include "api/problem.h"
#include "api/query.h"
#include "api/wait.h"

#define WAIT_MAX 60 /* seconds */

static void on_found(const GroupItem *item, const DbRows *rows, size_t row) {
    HttpRequest *r = item->request;
    unsigned status;

    const char *now = task_row_value(rows, row, 0, "status");
    if (wait_goes_on(r, now, task_row_value(rows, row, 0, "paused_at"), &status))
        return;
    if (status == 409)
        answer_not_paused(r, now);
    else
        answer_task(r, status, rows, row, 0);
}

static void on_gave_up(HttpRequest *r, _unused_ bool lost) {
    problem_answer(r, PROBLEM_NO_DATABASE, "The database did not answer");
}

const GroupOps read_ops = {
    .found = on_found,
    .missing = answer_missing,
    .refused = failure_answer,
    .gave_up = on_gave_up,
};

void read_get(Api *api, HttpRequest *r, const char *capture) {
    static const char *const names[] = { "wait", NULL };
    _cleanup_(query_done) Query q = {};
    Id id;

    query_read(&q, r, names, 0);
    uint64_t seconds = query_number(&q, 0, 0, WAIT_MAX, 0);
    if (query_refused(&q, r) || !answer_id(r, capture, &id))
        return;
    if (seconds > 0)
        wait_for(api->waits, r, id, TASK_GOAL_END, seconds * USEC_PER_SEC, 200);
    else
        groups_add(api->reads, r, id, NULL);
}

static void on_log(const Ask *ask, const DbRows *rows) {
    const char *text = db_value(rows, 0, 1);
    Buf body = {};

    if (!db_bool(rows, 0, 0))
        return answer_missing(ask->request, ask->id);
    if (text)
        buf_add(&body, text, db_length(rows, 0, 1));
    http_answer(ask->request, 200, "text/plain; charset=utf-8", NULL, &body);
}

void read_log(Api *api, HttpRequest *r, const char *capture) {
    Ask ask = { .api = api, .request = r, .use = LINK_BROWSE, .answer = on_log };

    if (!answer_id(r, capture, &ask.id))
        return;
    Ask *asked = ask_new(&ask);
    if (asked)
        ask_sent(asked, task_log(ask_db(asked), ask.id, ask_on_reply, asked));
}
