/* SPDX-License-Identifier: MIT */
/*
 * The stream executor: a handler's long-lived co-process, to which tasks are sent as lines and which answers with
 * lines. A task waits until there is room in the pipe, then it is sent. What was sent to a co-process that dies is
 * blamed, what waited is not. There is a co-process while there is work, and another one behind it when it ends.
 */
#include "base/log.h"
#include "base/timer.h"
#include "worker/coprocess.h"

#define RESTART_FIRST_USEC (100 * USEC_PER_MSEC)
#define RESTART_MAX_USEC   (10 * USEC_PER_SEC)

typedef struct Stream {
    Handler *handler; /* not owned: it owns this */
    sd_event *event;
    Coprocess *co;          /* NULL: there is none */
    sd_event_source *timer; /* until the next one may be started */
    CoTasks waiting;
    unsigned failures;
} Stream;

static void on_spent(void *userdata);
static void on_ended(const CoprocessEnd *end, void *userdata);

static int launch(Stream *s) {
    static const CoprocessEvents events = { .spent = on_spent, .ended = on_ended };

    return coprocess_start(&s->co, s->event, s->handler, &s->waiting, &events, s);
}

static void judge_waiting(Stream *s, const RunVerdict *v) {
    CoTask *next;

    for (CoTask *task = TAILQ_FIRST(&s->waiting); task; task = next) {
        next = TAILQ_NEXT(task, entry);
        run_judged(cotask_free(task), v);
    }
}

static int on_timer(_unused_ sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
    Stream *s = userdata;

    if (s->co || TAILQ_EMPTY(&s->waiting))
        return 0;
    int r = launch(s);
    if (r >= 0)
        return 0;
    (void) log_warning_errno(r, "Cannot start the co-process of %s now: %m", s->handler->name);
    return timer_start(s->timer, RESTART_MAX_USEC);
}

static void launch_later(Stream *s, uint64_t usec) {
    if (timer_start(s->timer, usec) < 0)
        judge_waiting(s, &(RunVerdict){ .outcome = RUN_RETURNED });
}

/* The next one does what waits, while the former answers what it has. */
static void on_spent(void *userdata) {
    Stream *s = userdata;

    s->co = NULL;
    launch_later(s, 0);
}

/* What ends well is followed at once, if it was of use; else the pauses grow. */
static void on_ended(const CoprocessEnd *end, void *userdata) {
    Stream *s = userdata;

    s->co = NULL;
    if (end->answered)
        s->failures = 0;
    if (end->not_started)
        judge_waiting(s, end->verdict);
    if (end->useful) {
        launch_later(s, 0);
        return;
    }
    const uint64_t wait = MIN(RESTART_FIRST_USEC << MIN(s->failures, 8U), RESTART_MAX_USEC);
    s->failures++;
    launch_later(s, wait / 2 + random_u32() % (wait / 2));
}

static int stream_get(Handler *h, sd_event *event, Stream **ret) {
    if (!h->state) {
        Stream *s = calloc(1, sizeof(Stream));
        if (!s)
            return -ENOMEM;
        *s = (Stream){ .handler = h, .event = event };
        TAILQ_INIT(&s->waiting);
        int r = timer_new(&s->timer, event, USEC_PER_MSEC, on_timer, s);
        if (r < 0) {
            free(s);
            return r;
        }
        h->state = s;
    }
    *ret = h->state;
    return 0;
}

/* ---- the executor ---- */

static int stream_start(Run *run, sd_event *event) {
    int restarting = SD_EVENT_OFF;
    Stream *s;

    int r = stream_get(run->handler, event, &s);
    if (r < 0)
        return r;
    (void) sd_event_source_get_enabled(s->timer, &restarting);
    if (!s->co && restarting == SD_EVENT_OFF)
        r = launch(s);
    CoTask *task = r < 0 ? NULL : calloc(1, sizeof(CoTask));
    if (!task)
        return r < 0 ? r : -ENOMEM;
    *task = (CoTask){ .list = &s->waiting, .run = run };
    TAILQ_INSERT_TAIL(&s->waiting, task, entry);
    run->execution = task;
    if (s->co)
        coprocess_pump(s->co);
    return 0;
}

static void stream_stop(Run *run, bool ask) {
    CoTask *task = run->execution;

    if (!task)
        return;
    if (!task->co)
        run_judged(cotask_free(task), &(RunVerdict){ .outcome = RUN_RETURNED });
    else
        (ask ? coprocess_cancel : coprocess_kill)(task);
}

static bool stream_waits(const Run *run) {
    const CoTask *task = run->execution;

    return task && !task->co;
}

static void stream_run_done(Run *run) {
    if (run->execution)
        (void) cotask_free(run->execution);
}

static void stream_retire(Handler *h) {
    Stream *s = TAKE_PTR(h->state);

    if (!s)
        return;
    if (s->co)
        coprocess_end(s->co);
    sd_event_source_disable_unref(s->timer);
    free(s);
}

static const char *stream_missing(const Handler *h) {
    return h->argv ? NULL : "Exec";
}

const Executor executor_stream = {
    .name = "stream",
    .missing = stream_missing,
    .start = stream_start,
    .stop = stream_stop,
    .waits = stream_waits,
    .done = stream_run_done,
    .retire = stream_retire,
};
