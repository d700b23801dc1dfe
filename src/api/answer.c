/* SPDX-License-Identifier: MIT */
#include "api/answer.h"

#include <stdio.h>

#include "api/envelope.h"
#include "api/failure.h"
#include "api/problem.h"
#include "base/json.h"

bool answer_id(HttpRequest *r, const char *capture, Id *ret) {
    if (id_parse(capture, ret) >= 0)
        return true;
    problem_answer_field(r, "id", "must be a UUID, not \"%s\"", FIELDS_QUOTE(capture));
    return false;
}

void answer_task(HttpRequest *r, unsigned status, const DbRows *rows, size_t row, unsigned first) {
    Buf task = {};

    task_row_json(rows, row, first, &task);
    buf_putc(&task, '\n');
    http_answer(r, status, "application/json", NULL, &task);
}

void answer_missing(HttpRequest *r, Id id) {
    problem_answer(r, PROBLEM_NO_SUCH_TASK, "There is no task %s", ID_TEXT(id));
}

void answer_not_paused(HttpRequest *r, const char *status) {
    if (task_status_is_end(task_status_from_string(status)))
        problem_answer(r, PROBLEM_TASK_ENDED, "The task is %s, cannot pause it: it has ended", status);
    else
        problem_answer(r, PROBLEM_TASK_RUNNING,
            "The task is %s, cannot pause it: its handler does not let it stand still, or it was resumed",
            status);
}

static void answer_submitted(HttpRequest *r, Id id, bool replayed, Buf *task) {
    char location[HTTP_BASE_MAX + 64];
    const HttpHeader headers[] = { { "Location", location },
        { replayed ? "Idempotency-Replayed" : NULL, "true" }, {} };

    (void) snprintf(location, sizeof(location), "%s/api/tasks/%s", http_base(r), ID_TEXT(id));
    buf_putc(task, '\n');
    http_answer(r, replayed ? 200 : 201, "application/json", headers, task);
}

/* The task, and the member `warning` where there is one. */
static void stored_json(const DbRows *rows, size_t row, unsigned first, const char *warning, Buf *b) {
    task_row_json(rows, row, first, b);
    if (!warning || buf_error(b) < 0)
        return;
    b->len--; /* the brace */
    buf_puts(b, ", \"warning\": ");
    json_write_string(b, warning, strlen(warning));
    buf_putc(b, '}');
}

void answer_stored(HttpRequest *r, Id id, bool replayed, const DbRows *rows, size_t row, unsigned first,
    const char *warning) {
    Buf task = {};

    if (rows)
        stored_json(rows, row, first, warning, &task);
    else /* a refusal would make the client submit it again, so the id must do */
        buf_printf(&task, "{\"id\": \"%s\"}", ID_TEXT(id));
    answer_submitted(r, id, replayed, &task);
}

/* Which field to name: domains have the names of fields. What is not here can only be the payload. */
static const char *culprit(const DbReply *reply) {
    static const char *const fields[] = { "name", "queue", "scheduled_at", "max_attempts", "timeout", "tags",
        "unique_key" };

    for (size_t i = 0; i < ELEMENTS(fields); i++)
        if (streq(fields[i], reply->constraint))
            return fields[i];
    return "payload";
}

void answer_refused(HttpRequest *r, const DbReply *reply) {
    if (reply->outcome == DB_INVALID)
        problem_answer_field(r, culprit(reply), "was refused by the database: %s", reply->message);
    else
        failure_answer(r, reply);
}

void answer_lost(HttpRequest *r) {
    problem_answer(r, PROBLEM_NO_DATABASE,
        "The database was lost while it stored this, and nobody knows whether it did: look, or send it again "
        "with the "
        "Idempotency-Key it had");
}

void answer_complaints(HttpRequest *r, int outcome, const Fields *complaints) {
    if (outcome < 0)
        problem_answer(r, PROBLEM_BUSY, "out of memory");
    else
        problem_answer_fields(
            r, outcome == ENVELOPE_MALFORMED ? PROBLEM_INVALID_JSON : PROBLEM_INVALID_FIELDS, complaints);
}
