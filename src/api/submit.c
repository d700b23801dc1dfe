/* SPDX-License-Identifier: MIT */
#include "api/submit.h"

#include "api/answer.h"
#include "api/envelope.h"
#include "api/keyed.h"
#include "api/known.h"
#include "api/problem.h"

static void on_found(const GroupItem *item, const DbRows *rows, size_t row) {
    const char *warning = task_row_behind(rows, row, 0, 0);

    if (item->task->maker)
        known_add(item->task, warning);
    else if (!warning)
        warning = item->task->warning;
    answer_stored(item->request, item->id, false, rows, row, 0, warning);
}

static void on_missing(HttpRequest *r, Id id) {
    answer_stored(r, id, false, NULL, 0, 0, NULL);
}

static void on_gave_up(HttpRequest *r, bool lost) {
    if (lost)
        answer_lost(r);
    else
        problem_answer(r, PROBLEM_NO_DATABASE, "The database could not take the task; nothing was stored");
}

const GroupOps submit_ops = {
    .store = true,
    .found = on_found,
    .missing = on_missing,
    .refused = answer_refused,
    .gave_up = on_gave_up,
};

/* ---- the request ---- */

void submit_post(Api *api, HttpRequest *r, _unused_ const char *capture) {
    _cleanup_(task_new_freep) TaskNew *task = NULL;
    _cleanup_(fields_done) Fields complaints = {};
    size_t len;
    const char *body = http_body(r, &len);

    int outcome = envelope_parse(body, len, &task, &complaints);
    if (outcome != 0)
        return answer_complaints(r, outcome, &complaints);
    if (keyed_is(r, task))
        return keyed_post(api, r, TAKE_PTR(task), body, len);
    if (known_look(task, http_client(r), (unsigned) api->config.queue_names) < 0)
        return problem_answer(r, PROBLEM_BUSY, "out of memory");
    Id id = task->id;
    groups_add(api->submissions, r, id, TAKE_PTR(task));
}
