/* SPDX-License-Identifier: MIT */
#include "api/read.h"

#include "api/failure.h"
#include "api/problem.h"

bool read_id(HttpRequest *r, const char *capture, Id *ret) {
    if (id_parse(capture, ret) >= 0)
        return true;
    problem_answer_field(r, "id", "must be a UUID, not \"%s\"", FIELDS_QUOTE(capture));
    return false;
}

void read_answer(HttpRequest *r, const DbRows *rows, size_t row, unsigned first) {
    Buf task = {};

    task_row_json(rows, row, first, &task);
    buf_putc(&task, '\n');
    http_answer(r, 200, "application/json", NULL, &task);
}

void read_answer_missing(HttpRequest *r, Id id) {
    problem_answer(r, PROBLEM_NO_SUCH_TASK, "There is no task %s", ID_TEXT(id));
}

static void on_found(HttpRequest *r, _unused_ Id id, const DbRows *rows, size_t row) {
    read_answer(r, rows, row, 0);
}

static void on_gave_up(HttpRequest *r, _unused_ bool lost) {
    problem_answer(r, PROBLEM_NO_DATABASE, "The database did not answer");
}

const GroupOps read_ops = {
    .found = on_found,
    .missing = read_answer_missing,
    .refused = failure_answer,
    .gave_up = on_gave_up,
};

void read_get(Api *api, HttpRequest *r, const char *capture) {
    Id id;

    if (read_id(r, capture, &id))
        groups_add(api->reads, r, id, NULL);
}
