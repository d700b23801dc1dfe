/* SPDX-License-Identifier: MIT */
#include "api/submit.h"

#include <stdio.h>

#include "api/envelope.h"
#include "api/failure.h"
#include "api/keyed.h"
#include "api/problem.h"

static void answer(HttpRequest *r, Id id, bool replayed, Buf *task) {
    char location[64];
    const HttpHeader headers[] = { { "Location", location },
        { replayed ? "Idempotency-Replayed" : NULL, "true" }, {} };

    (void) snprintf(location, sizeof(location), "/api/tasks/%s", ID_TEXT(id));
    buf_putc(task, '\n');
    http_answer(r, replayed ? 200 : 201, "application/json", headers, task);
}

static void on_found(HttpRequest *r, Id id, const DbRows *rows, size_t row) {
    Buf task = {};

    task_row_json(rows, row, 0, &task);
    answer(r, id, false, &task);
}

static void on_missing(HttpRequest *r, Id id) {
    submit_answer_stored(r, id, false, NULL, 0);
}

void submit_answer_stored(HttpRequest *r, Id id, bool replayed, const DbRows *rows, unsigned first) {
    Buf task = {};

    if (rows)
        task_row_json(rows, 0, first, &task);
    else /* a refusal would make the client submit it again, so the id must do */
        buf_printf(&task, "{\"id\": \"%s\"}", ID_TEXT(id));
    answer(r, id, replayed, &task);
}

/* Which field to name, from what the database says was violated. What is not here can only be the payload. */
static const char *culprit(const DbReply *reply) {
    static const struct {
        const char *constraint, *field;
    } table[] = {
        { "tasks_timeout_check", "timeout" },
        { "tasks_max_attempts_check", "max_attempts" },
        { "label", "name" },
        { "tasks_unique_key_check", "unique_key" },
    };

    for (size_t i = 0; i < ELEMENTS(table); i++)
        if (streq(table[i].constraint, reply->constraint))
            return table[i].field;
    return "payload";
}

void submit_answer_refused(HttpRequest *r, const DbReply *reply) {
    if (reply->outcome == DB_INVALID)
        problem_answer_field(r, culprit(reply), "was refused by the database: %s", reply->message);
    else
        failure_answer(r, reply);
}

void submit_answer_lost(HttpRequest *r) {
    problem_answer(r, PROBLEM_NO_DATABASE,
        "The database was lost while it stored this, and nobody knows whether it did: look, or send it again "
        "with the "
        "Idempotency-Key it had");
}

static void on_gave_up(HttpRequest *r, bool lost) {
    if (lost)
        submit_answer_lost(r);
    else
        problem_answer(r, PROBLEM_NO_DATABASE, "The database could not take the task; nothing was stored");
}

const GroupOps submit_ops = {
    .store = true,
    .found = on_found,
    .missing = on_missing,
    .refused = submit_answer_refused,
    .gave_up = on_gave_up,
};

/* ---- the request ---- */

void submit_answer_envelope(HttpRequest *r, int outcome, const Fields *complaints) {
    if (outcome < 0)
        problem_answer(r, PROBLEM_BUSY, "out of memory");
    else
        problem_answer_fields(
            r, outcome == ENVELOPE_MALFORMED ? PROBLEM_INVALID_JSON : PROBLEM_INVALID_FIELDS, complaints);
}

void submit_post(Api *api, HttpRequest *r, _unused_ const char *capture) {
    _cleanup_(task_new_freep) TaskNew *task = NULL;
    _cleanup_(fields_done) Fields complaints = {};
    size_t len;
    const char *body = http_body(r, &len);

    int outcome = envelope_parse(body, len, &task, &complaints);
    if (outcome != 0)
        return submit_answer_envelope(r, outcome, &complaints);
    if (keyed_is(r, task))
        return keyed_post(api, r, TAKE_PTR(task), body, len);
    Id id = task->id;
    groups_add(api->submissions, r, id, TAKE_PTR(task));
}
