/* SPDX-License-Identifier: MIT */
#include "api/health.h"

#include "api/failure.h"

static void answer_ok(HttpRequest *r) {
    Buf body = {};

    buf_puts(&body, "{\"status\": \"ok\"}\n");
    http_answer(r, 200, "application/json", NULL, &body);
}

void health_live(_unused_ Api *api, HttpRequest *r, _unused_ const char *capture) {
    answer_ok(r);
}

void health_ready(Api *api, HttpRequest *r, _unused_ const char *capture) {
    const Link *links[] = { api->write, api->read, api->steer };

    for (size_t i = 0; i < ELEMENTS(links); i++)
        if (!link_db(links[i]))
            return failure_answer_unusable(r, links[i]);
    answer_ok(r);
}
