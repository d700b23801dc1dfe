/* SPDX-License-Identifier: MIT */
#include "worker/story.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/log.h"
#include "base/log_id.h"
#include "base/time.h"

#define STORY_LINE_MAX 1024

static void tell(const Run *run, int level, const char *id, const char *format, ...) _printf_(4, 5);
static void tell(const Run *run, int level, const char *id, const char *format, ...) {
    const LogTask task = run_log_task(run);
    char text[STORY_LINE_MAX];
    va_list ap;

    va_start(ap, format);
    (void) vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    log_event(level, id, &task, "%s", text);
}

/* Its beginning and its end are both told, or none is. */
static bool may_tell(void) {
    static uint64_t since, told;
    uint64_t now = time_now_monotonic();

    if (now - since >= USEC_PER_SEC) {
        since = now;
        told = 0;
    }
    return told++ < STORY_BURST;
}

void story_began(Run *run) {
    run->told = may_tell();
    if (run->told)
        tell(run, LOG_INFO, NULL, "Attempt %u of %u begins", run->attempt, run->max_attempts);
}

void story_frozen(const Run *run) {
    tell(run, LOG_NOTICE, NULL, run->frozen ? "Paused" : "Resumed");
}

void story_stuck(const Run *run, int error) {
    tell(run, LOG_WARNING, NULL, "Cannot %s it: %s", run->pausing ? "thaw" : "freeze", strerror(-error));
}

void story_left(const Run *run, const char *names) {
    tell(run, LOG_WARNING, NULL, "Its program ended and left processes behind, which are killed: %s", names);
}

void story_cancelled(const Run *run) {
    tell(run, LOG_NOTICE, NULL, "Cancelling it: somebody asked for that");
}

/* "; the next one in 1.5 s" */
static const char *next_in(const Run *run, char buf[static 48]) {
    if (run->delay > 0)
        (void) snprintf(buf, 48, "; the next one in %.3g s", run->delay);
    else
        *buf = '\0';
    return buf;
}

/* SQL decides what comes after a failure (pgmill.state_after); this says it the same way. */
static void tell_failure(const Run *run, double seconds, const char *why) {
    char next[48];

    if (run->outcome == RUN_FAILED || run->attempt >= run->max_attempts)
        tell(run, LOG_ERR, LOG_ID_TASK_FAILED, "Failed for good in attempt %u of %u, after %.3f s: %s",
            run->attempt, run->max_attempts, seconds, why);
    else
        tell(run, LOG_WARNING, NULL, "Attempt %u of %u failed after %.3f s: %s%s", run->attempt,
            run->max_attempts, seconds, why, next_in(run, next));
}

void story_ended(const Run *run) {
    const double seconds = (double) run->took / 1e6;
    const char *why = run->why ? run->why : "it gave no reason";
    char next[48];

    if (run->started == 0)
        return; /* went back before it began */
    if (run->unbegun) {
        if (run->told)
            tell(run, LOG_NOTICE, NULL, "Given back, since it could not begin: %s", why);
        return;
    }
    if (run->refused) {
        tell(run, LOG_WARNING, LOG_ID_FENCED,
            "Its end after %.3f s does not count: it is no longer this worker's", seconds);
        return;
    }
    switch (run->outcome) {
    case RUN_COMPLETED:
    case RUN_SETTLED:
        if (run->note)
            tell(run, LOG_WARNING, NULL, "Completed after %.3f s; its result is not as it was written: %s",
                seconds, run->note);
        else if (run->told)
            tell(run, LOG_INFO, NULL, "Completed after %.3f s", seconds);
        break;
    case RUN_FAILED:
    case RUN_RETRY:
        tell_failure(run, seconds, why);
        break;
    case RUN_DEFERRED:
        tell(run, LOG_NOTICE, NULL, "Put off after %.3f s, which does not count: %s%s", seconds, why,
            next_in(run, next));
        break;
    case RUN_RETURNED:
        tell(run, LOG_NOTICE, NULL, "Given back after %.3f s, which does not count", seconds);
        break;
    case RUN_CANCELLED:
        tell(run, LOG_NOTICE, NULL, "Cancelled after %.3f s", seconds);
        break;
    default:
        break;
    }
}
