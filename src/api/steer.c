/* SPDX-License-Identifier: MIT */
#include "api/steer.h"

#include "api/answer.h"
#include "api/ask.h"
#include "api/failure.h"
#include "api/problem.h"
#include "api/wait.h"
#include "base/json.h"

#define ACT_USEC (2 * USEC_PER_SEC) /* for a worker to do as asked; then the answer is 202 */

typedef struct SteerVerb {
    const char *name;
    TaskVerb verb;
    TaskGoal goal; /* when a worker has to act */
} SteerVerb;

typedef struct Steer {
    const SteerVerb *verb;
    Id act; /* of this request: the database does it once, however often it is sent */
} Steer;

/* What the answer says for each verdict that is no. */
static const struct {
    const char *verdict;
    Problem kind;
    const char *why;
} refusals[] = {
    { "ended", PROBLEM_TASK_ENDED, "it has ended" },
    { "running", PROBLEM_TASK_RUNNING, "it runs" },
    { "taken", PROBLEM_UNIQUE_KEY, "another task has its unique_key now" },
};

static void on_steered(const Ask *ask, const DbRows *rows) {
    const char *verdict = db_value(rows, 0, 0), *status = task_row_value(rows, 0, 1, "status");
    const SteerVerb *verb = ((const Steer *) ask->what)->verb;

    if (streq(verdict, "unknown") || !status)
        return answer_missing(ask->request, ask->id);
    if (streq(verdict, "asked") && waits_full(ask->api->waits))
        return answer_task(ask->request, 202, rows, 0, 1);
    if (streq(verdict, "asked")) /* a worker has to act */
        return wait_for(ask->api->waits, ask->request, ask->id, verb->goal, ACT_USEC, 202);
    for (size_t i = 0; i < ELEMENTS(refusals); i++)
        if (streq(verdict, refusals[i].verdict))
            return problem_answer(ask->request, refusals[i].kind, "The task is %s, cannot %s it: %s", status,
                verb->name, refusals[i].why);
    answer_task(ask->request, 200, rows, 0, 1);
}

static void on_failed(const Ask *ask, const DbReply *reply) {
    if (reply->outcome == DB_LOCKED)
        problem_answer(ask->request, PROBLEM_TASK_LOCKED,
            "Another session's open transaction holds the task; this request waited half a second for it");
    else
        failure_answer(ask->request, reply);
}

static int send_steer(Ask *ask, Db *db) {
    const Steer *s = ask->what;

    return task_steer(db, s->verb->verb, ask->id, s->act, ask_on_reply, ask);
}

static void done(Ask *ask) {
    free((Steer *) ask->what);
}

/* A body is not needed, but clients like to send an empty object. False: r is answered. */
bool steer_body_is_empty(HttpRequest *r) {
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
    Ask ask = { .api = api,
        .request = r,
        .use = LINK_STEER,
        .send = send_steer,
        .answer = on_steered,
        .failed = on_failed,
        .done = done };

    if (!answer_id(r, capture, &ask.id) || !steer_body_is_empty(r))
        return;
    Steer *s = malloc(sizeof(Steer));
    if (!s || !(ask.keys[0] = strdup(ID_TEXT(ask.id)))) {
        free(s);
        return problem_answer(r, PROBLEM_BUSY, "out of memory");
    }
    *s = (Steer){ verb, id_new() };
    ask.what = s;
    ask_start(&ask);
}

void steer_pause(Api *api, HttpRequest *r, const char *capture) {
    static const SteerVerb verb = { "pause", TASK_PAUSE, TASK_GOAL_PAUSED };

    steer(api, r, capture, &verb);
}

void steer_resume(Api *api, HttpRequest *r, const char *capture) {
    static const SteerVerb verb = { "resume", TASK_RESUME, TASK_GOAL_RESUMED };

    steer(api, r, capture, &verb);
}

void steer_cancel(Api *api, HttpRequest *r, const char *capture) {
    static const SteerVerb verb = { "cancel", TASK_CANCEL, TASK_GOAL_END };

    steer(api, r, capture, &verb);
}

void steer_retry(Api *api, HttpRequest *r, const char *capture) {
    static const SteerVerb verb = { "retry", TASK_RETRY, TASK_GOAL_END };

    steer(api, r, capture, &verb);
}
