/* SPDX-License-Identifier: MIT */
#include "api/submit.h"

#include <stdio.h>

#include "api/envelope.h"
#include "api/failure.h"
#include "api/problem.h"

static void answer_created(HttpRequest *r, Id id, Buf *task) {
    char location[64];

    (void) snprintf(location, sizeof(location), "/api/tasks/%s", ID_TEXT(id));
    buf_putc(task, '\n');
    http_answer(r, 201, "application/json", (const HttpHeader[]){ { "Location", location }, {} }, task);
}

static void on_found(HttpRequest *r, Id id, const DbRows *rows, size_t row) {
    Buf task = {};

    task_row_json(rows, row, 0, &task);
    answer_created(r, id, &task);
}

/* It is stored. A refusal would make the client submit it again, so the id must do. */
static void on_missing(HttpRequest *r, Id id) {
    Buf task = {};

    buf_printf(&task, "{\"id\": \"%s\"}", ID_TEXT(id));
    answer_created(r, id, &task);
}

/* Which field to name, from what the database says was violated. What is not here can only be the payload. */
static const char *culprit(const DbReply *reply) {
    static const struct {
        const char *constraint, *field;
    } table[] = {
        { "tasks_timeout_check", "timeout" },
        { "tasks_max_attempts_check", "max_attempts" },
        { "label", "name" },
    };

    for (size_t i = 0; i < ELEMENTS(table); i++)
        if (streq(table[i].constraint, reply->constraint))
            return table[i].field;
    return "payload";
}

static void on_refused(HttpRequest *r, const DbReply *reply) {
    if (reply->outcome == DB_INVALID)
        problem_answer_field(r, culprit(reply), "was refused by the database: %s", reply->message);
    else
        failure_answer(r, reply);
}

static void on_gave_up(HttpRequest *r, bool lost) {
    if (lost)
        problem_answer(r, PROBLEM_NO_DATABASE,
            "The database was lost while it stored the task, and nobody knows whether it did");
    else
        problem_answer(r, PROBLEM_NO_DATABASE, "The database could not take the task; nothing was stored");
}

const GroupOps submit_ops = {
    .store = true,
    .found = on_found,
    .missing = on_missing,
    .refused = on_refused,
    .gave_up = on_gave_up,
};

void submit_post(Api *api, HttpRequest *r, _unused_ const char *capture) {
    _cleanup_(task_new_freep) TaskNew *task = NULL;
    _cleanup_(fields_done) Fields complaints = {};
    size_t len;
    const char *body = http_body(r, &len);

    int outcome = envelope_parse(body, len, &task, &complaints);
    if (outcome == ENVELOPE_MALFORMED)
        return problem_answer_fields(r, PROBLEM_INVALID_JSON, &complaints);
    if (outcome == ENVELOPE_INVALID)
        return problem_answer_fields(r, PROBLEM_INVALID_FIELDS, &complaints);
    if (outcome < 0)
        return problem_answer(r, PROBLEM_BUSY, "out of memory");
    Id id = task->id;
    groups_add(api->submissions, r, id, TAKE_PTR(task));
}
