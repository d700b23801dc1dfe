/* SPDX-License-Identifier: MIT */
/*
 * What this host cannot begin is not the tasks' fault: they go back, and the handler rests on this worker, for longer each
 * time, while other workers take its tasks. What operators see of that is told here.
 */
#include <stdio.h>

#include "base/log.h"
#include "base/log_id.h"
#include "base/time.h"
#include "store/array.h"
#include "worker/core.h"

#define REST_FIRST_USEC USEC_PER_SEC
#define REST_MAX_USEC   (60 * USEC_PER_SEC)
#define BEGAN_USEC      USEC_PER_SEC /* what runs for so long has begun */

bool rest_now(const Handler *h) {
    return h->rests > 0 && time_now_monotonic() < h->rest_until;
}

static void told_anew(Worker *w) {
    w->named = false;
    turn_want(w, false);
    turn_status(w);
}

/* What else failed meanwhile belongs to the same rest. */
static void rest_begin(Worker *w, Handler *h, const char *why) {
    const uint64_t pause = MIN(REST_FIRST_USEC << MIN(h->rests, 10U), REST_MAX_USEC);
    char span[TIME_SPAN_SIZE];

    if (rest_now(h))
        return;
    const bool news = !h->rest_why || !streq(h->rest_why, why);
    if (news)
        (void) string_replace(&h->rest_why, why);
    h->rests++;
    h->rest_until = time_now_monotonic() + pause;
    log_event(LOG_WARNING, LOG_ID_HANDLER_RESTS, NULL,
        "The handler of %s rests for %s, and its tasks go back uncounted: %s", h->name,
        time_format_span(pause, span), why);
    if (news)
        told_anew(w);
}

static void rest_end(Worker *w, Handler *h) {
    log_notice("The handler of %s rests no more: it has begun one", h->name);
    h->rests = 0;
    h->rest_why = (free(h->rest_why), NULL);
    told_anew(w);
}

/* Does the run tell anything of its handler as it is now? */
static bool is_news(const Worker *w, const Run *run) {
    return run->handler && run->started >= run->handler->rest_until &&
           handlers_find(&w->handlers, run->handler->name) == run->handler;
}

void rest_learn(Worker *w, const Run *run) {
    if (!is_news(w, run))
        return;
    if (run->unbegun)
        rest_begin(w, run->handler, run->why ? run->why : "it cannot begin");
    else if (run->handler->rests > 0 && !run->interrupted)
        rest_end(w, run->handler);
}

void rest_look(Worker *w) {
    for (size_t i = 0; i < w->n_runs; i++) {
        const Run *run = w->runs[i];
        if (run->state == RUN_RUNNING && run->handler->rests > 0 && is_news(w, run) &&
            time_now_monotonic() - run->started >= BEGAN_USEC &&
            !(run->executor->waits && run->executor->waits(run)))
            rest_end(w, run->handler);
    }
}

bool rest_any(const Worker *w) {
    for (size_t i = 0; i < w->handlers.n; i++)
        if (w->handlers.list[i]->rests > 0)
            return true;
    return false;
}

const char *rest_list(const Worker *w, char buf[static REST_LIST_SIZE]) {
    size_t n = 0;

    *buf = '\0';
    for (size_t i = 0; i < w->handlers.n && n < REST_LIST_SIZE - 1; i++)
        if (w->handlers.list[i]->rests > 0)
            n += (size_t) snprintf(buf + n, REST_LIST_SIZE - n, "%s%s", n == 0 ? "; resting: " : ", ",
                w->handlers.list[i]->name);
    return buf;
}

int rest_serve(Worker *w) {
    _cleanup_(buf_done) Buf names = {}, reasons = {};

    for (size_t i = 0; i < w->handlers.n; i++) {
        const Handler *h = w->handlers.list[i];
        if (h->rests == 0)
            continue;
        array_add(&names, h->name);
        array_add(&reasons, h->rest_why ? h->rest_why : "");
    }
    const char *resting = array_literal(&names), *why = array_literal(&reasons);
    if (buf_error(&names) < 0 || buf_error(&reasons) < 0)
        return -ENOMEM;
    return worker_serve(w->db, &w->info, resting, why);
}
