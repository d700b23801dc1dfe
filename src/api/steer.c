/* SPDX-License-Identifier: MIT */
#include "api/steer.h"

#include "api/failure.h"
#include "api/problem.h"
#include "api/read.h"
#include "base/json.h"

/* Each may wait half a second for a row that another session holds, one behind the other. */
#define STEERING_MAX 16

typedef struct Steering {
    Api *api;
    HttpRequest *request;
    Id id;
    const char *verb;
} Steering;

typedef int (*SteerCall)(Db *db, Id id, DbCallback callback, void *userdata);

static void answer_verdict(const Steering *s, const DbRows *rows) {
    const char *verdict = db_value(rows, 0, 0), *status = task_row_value(rows, 0, 1, "status");

    if (streq(verdict, "unknown") || !status)
        return read_answer_missing(s->request, s->id);
    if (streq(verdict, "done"))
        return read_answer(s->request, rows, 0, 1);
    if (streq(verdict, "ended"))
        return problem_answer(
            s->request, PROBLEM_TASK_ENDED, "The task is %s: there is nothing left to %s", status, s->verb);
    problem_answer(s->request, PROBLEM_TASK_RUNNING,
        "The task is running, and this version cannot %s a running task", s->verb);
}

static void on_steered(_unused_ Db *db, const DbReply *reply, void *userdata) {
    _cleanup_(freep) Steering *s = userdata;

    s->api->steering--;
    if (reply->outcome == DB_OK && db_rows(reply->rows) == 1)
        answer_verdict(s, reply->rows);
    else if (reply->outcome == DB_LOCKED)
        problem_answer(s->request, PROBLEM_TASK_LOCKED,
            "Another session's open transaction holds the task; this request waited half a second for it");
    else
        failure_answer(s->request, reply);
}

/* A body is not needed, but clients like to send an empty object. False: r is answered. */
static bool body_is_empty(HttpRequest *r) {
    size_t len, offset;
    const char *body = http_body(r, &len), *why;
    JsonSpan value;

    if (strspn(body, " \t\r\n") == len)
        return true;
    if (json_check(body, len, &value, &offset, &why) < 0)
        problem_answer(
            r, PROBLEM_INVALID_JSON, "The body is not JSON at byte %zu of %zu: %s", offset, len, why);
    else if (value.type != JSON_OBJECT || strspn(value.text + 1, " \t\r\n") != value.len - 2)
        problem_answer_field(r, "", "must be empty or {}: this call takes no fields");
    else
        return true;
    return false;
}

static void steer(Api *api, HttpRequest *r, const char *capture, SteerCall call, const char *verb) {
    _cleanup_(freep) Steering *s = NULL;
    Db *db = link_db(api->steer);
    Id id;

    if (!read_id(r, capture, &id) || !body_is_empty(r))
        return;
    if (!db)
        return failure_answer_unusable(r, api->steer);
    if (api->steering < STEERING_MAX)
        s = malloc(sizeof(Steering));
    if (!s)
        return problem_answer(
            r, PROBLEM_BUSY, "%zu requests of this kind are under way already", api->steering);
    *s = (Steering){ .api = api, .request = r, .id = id, .verb = verb };
    if (call(db, id, on_steered, s) < 0)
        return problem_answer(r, PROBLEM_BUSY, "The request could not be sent to the database");
    api->steering++;
    TAKE_PTR(s);
}

void steer_pause(Api *api, HttpRequest *r, const char *capture) {
    steer(api, r, capture, task_pause, "pause");
}

void steer_resume(Api *api, HttpRequest *r, const char *capture) {
    steer(api, r, capture, task_resume, "resume");
}
