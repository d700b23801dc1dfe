/* SPDX-License-Identifier: MIT */
#include "api/health.h"

#include "api/failure.h"
#include "api/problem.h"

static void answer_ok(HttpRequest *r) {
    Buf body = {};

    buf_puts(&body, "{\"status\": \"ok\"}\n");
    http_answer(r, 200, "application/json", NULL, &body);
}

void health_live(_unused_ Api *api, HttpRequest *r, _unused_ const char *capture) {
    answer_ok(r);
}

void health_ready(Api *api, HttpRequest *r, _unused_ const char *capture) {
    const Link *missing = api_missing_link(api);

    if (missing)
        return failure_answer_unusable(r, missing);
    if (!storing_works(api->storing))
        return problem_answer(r, PROBLEM_NO_DATABASE, "The database stores no submissions now");
    answer_ok(r);
}
