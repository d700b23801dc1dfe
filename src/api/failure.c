/* SPDX-License-Identifier: MIT */
#include "api/failure.h"

#include "api/problem.h"
#include "base/log.h"
#include "base/time.h"

#define LOG_EVERY_USEC (10 * USEC_PER_SEC)

void failure_answer_unusable(HttpRequest *r, const Link *link) {
    const char *state = link_state(link);

    problem_answer(r, PROBLEM_NO_DATABASE, "The service is %s", state ? state : "connecting to the database");
}

/* A client may cause any number of these; the first one tells enough. */
static void log_now_and_then(const DbReply *reply) {
    static uint64_t last;
    uint64_t now = time_now_boottime();

    if (last != 0 && now - last < LOG_EVERY_USEC)
        return;
    last = now;
    log_error("The database refused a statement (SQLSTATE %s): %s", reply->sqlstate, reply->message);
}

void failure_answer(HttpRequest *r, const DbReply *reply) {
    switch (reply->outcome) {
    case DB_LOST: /* what only reads has no outcome */
        return problem_answer(r, streq(http_method(r), "GET") ? PROBLEM_NO_DATABASE : PROBLEM_OUTCOME_UNKNOWN,
            "The connection to the database was lost before the answer came");
    case DB_RETRY:
    case DB_LOCKED:
    case DB_SKIPPED:
        return problem_answer(r, PROBLEM_NO_DATABASE, "The database could not do it now: %s", reply->message);
    default:
        log_now_and_then(reply);
        return problem_answer(
            r, PROBLEM_INTERNAL, "The database refused the statement (SQLSTATE %s)", reply->sqlstate);
    }
}
