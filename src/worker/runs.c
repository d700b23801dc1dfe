/* SPDX-License-Identifier: MIT */
/*
 * What this worker has of tasks, in the order of their claims; and what of it begins when. A task of a handler with
 * ReadAhead= may be here before there is a slot for it: it begins when one is free, not a round trip later.
 */
#include "base/time.h"
#include "base/timer.h"
#include "worker/core.h"

#define AHEAD_PATIENCE_USEC USEC_PER_SEC /* what it waits for takes longer than anybody thought */

Run *runs_find(const Worker *w, Id id, int64_t claim_no) {
    for (size_t i = 0; i < w->n_runs; i++)
        if (id_equal(w->runs[i]->id, id) && w->runs[i]->claim_no == claim_no)
            return w->runs[i];
    return NULL;
}

/* ---- what its runs say ---- */

static void on_run_end(Run *run, void *userdata) {
    Worker *w = userdata;

    w->n_busy--;
    if (run->took > 0 && !run->unbegun)
        handler_took(run->handler, run->took);
    rest_learn(w, run);
    if (w->narrow) { /* tasks of its handler may have been passed for want of room */
        w->listed = false;
        for (size_t i = 0; i < w->n_queues; i++)
            w->queues[i].dry = false;
    }
    runs_want(w);
    fetch_want(w);
    turn_want(w, w->narrow);
}

static void on_run_said(_unused_ Run *run, void *userdata) {
    report_want(userdata);
}

static void on_run_frozen(Run *run, void *userdata) {
    Worker *w = userdata;

    w->obey_wanted = true;
    runs_want(w);
    turn_want(w, run->frozen && !w->config.paused_hold); /* its slot is free */
}

/* ---- the list ---- */

Run *runs_add(Worker *w, const DbRows *rows, size_t row) {
    Run **list = reallocarray(w->runs, w->n_runs + 1, sizeof(Run *));
    Run *run;

    if (!list)
        return NULL;
    w->runs = list;
    if (run_new(&run, rows, row) < 0)
        return NULL;
    run->on_end = on_run_end;
    run->on_said = on_run_said;
    run->on_frozen = on_run_frozen;
    run->userdata = w;
    w->runs[w->n_runs++] = run;
    w->n_busy++;
    return run;
}

void runs_remove(Worker *w, bool (*gone)(const Run *run)) {
    size_t kept = 0;

    for (size_t i = 0; i < w->n_runs; i++) {
        Run *run = w->runs[i];
        if (gone && !gone(run)) {
            w->runs[kept++] = run;
            continue;
        }
        w->n_busy -= run->state != RUN_ENDED;
        run_free(run);
    }
    w->n_runs = kept;
}

void runs_kill_all(Worker *w) {
    for (size_t i = 0; i < w->n_runs; i++)
        run_interrupt(w->runs[i]);
}

void runs_return_idle(Worker *w) {
    for (size_t i = 0; i < w->n_runs; i++) {
        Run *run = w->runs[i];
        if (run_is_idle(run) || (run->state == RUN_RUNNING &&
                                    (run->pausing || (run->executor->waits && run->executor->waits(run)))))
            run_interrupt(run);
    }
}

void runs_return_late(Worker *w) {
    for (size_t i = 0; i < w->n_runs; i++)
        if (w->runs[i]->state == RUN_AHEAD &&
            time_now_monotonic() - w->runs[i]->ahead_since >= AHEAD_PATIENCE_USEC)
            run_return(w->runs[i]);
}

/* ---- beginning ---- */

/* A reload, or a drain, may have taken its handler; and its proof may have grown old meanwhile. */
void runs_begin(Worker *w, Run *run) {
    Handler *h = handlers_find(&w->handlers, run->name);

    if (h && !fence_is_late(&w->fence))
        run_start(run, w->event, h);
    else
        run_return(run);
}

static void start(Worker *w, Run *run, const Handler *h) {
    if (run->payload.text || h->executor->reads_payload) {
        runs_begin(w, run);
        return;
    }
    run->state = RUN_FETCHING;
    fetch_want(w);
}

/* What was claimed, the oldest first, while there are slots for it. A reload may have left some without a place here. */
static int on_start(_unused_ sd_event_source *s, void *userdata) {
    Worker *w = userdata;
    size_t slots = room_count(w);

    w->ahead = false;
    for (size_t i = 0; i < w->n_runs; i++) {
        Run *run = w->runs[i];
        if (run->state != RUN_AHEAD)
            continue;
        Handler *h = handlers_find(&w->handlers, run->name);
        if (h && rest_now(h))
            run_return(run);
        else if (h && slots > 0 && room_take(w, run->name)) {
            slots--;
            w->beat_wanted |= run->told_ahead; /* the next one tells that it has begun */
            start(w, run, h);
        } else if (h && h->read_ahead > 0)
            w->ahead = true;
        else
            run_return(run);
    }
    if (w->beat_wanted)
        turn_want(w, false);
    return 0;
}

/* A worker that drains has neither slots nor handlers: all of it goes back. */
void runs_start_claimed(Worker *w) {
    bool fresh = false;

    for (size_t i = 0; i < w->n_runs; i++)
        if (w->runs[i]->state == RUN_CLAIMED) {
            w->runs[i]->state = RUN_AHEAD;
            w->runs[i]->ahead_since = time_now_monotonic();
            w->ahead = fresh = true;
        }
    if (w->ahead)
        (void) on_start(NULL, w);
    w->beat_wanted |= fresh && w->ahead; /* those count as started until it is said that they wait */
    fetch_want(w);
}

void runs_want(Worker *w) {
    if (w->ahead)
        (void) sd_event_source_set_enabled(w->start_source, SD_EVENT_ONESHOT);
}

int runs_init(Worker *w) {
    int r = sd_event_add_defer(w->event, &w->start_source, on_start, w);

    return r < 0 ? r : sd_event_source_set_enabled(w->start_source, SD_EVENT_OFF);
}

void runs_done(Worker *w) {
    runs_remove(w, NULL);
    free(w->runs);
    w->start_source = sd_event_source_disable_unref(w->start_source);
}
