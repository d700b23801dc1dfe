/* SPDX-License-Identifier: MIT */
#include "api/steer.h"

#include "api/ask.h"
#include "api/failure.h"
#include "api/problem.h"
#include "api/read.h"
#include "base/json.h"

typedef struct SteerVerb {
    const char *name;
    int (*call)(Db *db, Id id, DbCallback callback, void *userdata);
} SteerVerb;

static void on_steered(const Ask *ask, const DbRows *rows) {
    const char *verdict = db_value(rows, 0, 0), *status = task_row_value(rows, 0, 1, "status");
    const SteerVerb *verb = ask->what;

    if (streq(verdict, "unknown") || !status)
        return read_answer_missing(ask->request, ask->id);
    if (streq(verdict, "done"))
        return read_answer(ask->request, rows, 0, 1);
    if (streq(verdict, "ended"))
        return problem_answer(ask->request, PROBLEM_TASK_ENDED, "The task is %s: there is nothing left to %s",
            status, verb->name);
    problem_answer(ask->request, PROBLEM_TASK_RUNNING,
        "The task is running, and this version cannot %s a running task", verb->name);
}

static void on_failed(const Ask *ask, const DbReply *reply) {
    if (reply->outcome == DB_LOCKED)
        problem_answer(ask->request, PROBLEM_TASK_LOCKED,
            "Another session's open transaction holds the task; this request waited half a second for it");
    else
        failure_answer(ask->request, reply);
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

static void steer(Api *api, HttpRequest *r, const char *capture, const SteerVerb *verb) {
    Ask ask = {
        .api = api, .request = r, .use = LINK_STEER, .what = verb, .answer = on_steered, .failed = on_failed
    };

    if (!read_id(r, capture, &ask.id) || !body_is_empty(r))
        return;
    Ask *asked = ask_new(&ask);
    if (asked)
        ask_sent(asked, verb->call(ask_db(asked), ask.id, ask_on_reply, asked));
}

void steer_pause(Api *api, HttpRequest *r, const char *capture) {
    static const SteerVerb verb = { "pause", task_pause };

    steer(api, r, capture, &verb);
}

void steer_resume(Api *api, HttpRequest *r, const char *capture) {
    static const SteerVerb verb = { "resume", task_resume };

    steer(api, r, capture, &verb);
}
