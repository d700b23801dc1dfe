/* SPDX-License-Identifier: MIT */
#include "worker/run.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/wait.h>
#include <sysexits.h>

#include "base/json.h"
#include "base/log.h"
#include "base/time.h"
#include "store/task.h"
#include "worker/folder.h"
#include "worker/result.h"
#include "worker/story.h"

#define RUN_MESSAGE_MAX 4096

int run_new(Run **ret, const DbRows *rows, size_t row) {
    _cleanup_(run_freep) Run *run = calloc(1, sizeof(Run));

    if (!run)
        return -ENOMEM;
    run->payload = payload_none();
    if (id_parse(db_value(rows, row, CLAIMED_ID), &run->id) < 0)
        return -EBADMSG;
    (void) id_format(run->id, run->id_text);
    run->claim_no = db_int(rows, row, CLAIMED_NO);
    run->attempt = (unsigned) db_int(rows, row, CLAIMED_ATTEMPT);
    run->deferrals = (unsigned) db_int(rows, row, CLAIMED_DEFERRALS);
    run->max_attempts = (unsigned) db_int(rows, row, CLAIMED_MAX_ATTEMPTS);
    run->timeout_usec = db_value(rows, row, CLAIMED_TIMEOUT)
                            ? (uint64_t) (MIN(db_double(rows, row, CLAIMED_TIMEOUT), TASK_TIMEOUT_MAX) * 1e6)
                            : UINT64_MAX;
    run->delay = -1;
    run->usage = (CgroupUsage){ .cpu_usec = -1, .memory_peak = -1 };
    if (string_replace(&run->queue, db_value(rows, row, CLAIMED_QUEUE)) < 0 ||
        string_replace(&run->name, db_value(rows, row, CLAIMED_NAME)) < 0 ||
        string_replace(&run->payload.text, db_value(rows, row, CLAIMED_PAYLOAD)) < 0)
        return -ENOMEM;
    *ret = TAKE_PTR(run);
    return 0;
}

Run *run_free(Run *run) {
    if (!run)
        return NULL;
    if (run->executor)
        run->executor->done(run);
    clock_stop(&run->clock);
    handler_unref(run->handler);
    buf_done(&run->output);
    lines_done(&run->lines);
    notify_free(run->notify);
    free(run->queue);
    free(run->name);
    payload_done(&run->payload);
    free(run->result);
    free(run->error);
    free(run->note);
    free(run->why);
    free(run);
    return NULL;
}

void run_freep(Run **run) {
    run_free(*run);
}

/* ---- output ---- */

void run_output(Run *run, const char *data, size_t n) {
    const size_t room = RESULT_MAX - run->output.len;

    run->output_cut =
        run->output_cut || n > room; /* the rest is read and dropped: the program must not hang */
    buf_add(&run->output, data, MIN(n, room));
}

void run_error_output(Run *run, const char *data, size_t n) {
    const LogTask task = run_log_task(run);

    lines_add(&run->lines, &task, data, n);
}

/* ---- what became of it ---- */

/* Microseconds that it has run, those that it stood still not counted; 0: it never began. */
static uint64_t time_ran(const Run *run) {
    const uint64_t until = run->frozen ? run->frozen_at : time_now_monotonic();

    return run->started > 0 ? until - run->started - run->stood : 0;
}

static void end(Run *run, RunOutcome outcome, double delay) {
    clock_stop(&run->clock);
    payload_done(&run->payload);
    run->state = RUN_ENDED;
    run->took = time_ran(run);
    run->outcome = outcome;
    run->delay = delay;
    run->on_end(run, run->userdata);
}

/* The object about the attempt; its number, time and worker are added by SQL. message: NULL if nothing went wrong. */
static void set_error(Run *run, const char *message, const RunExit *exit) {
    _cleanup_(buf_done) Buf b = {};

    if (message) {
        buf_puts(&b, "{\"error\": ");
        json_write_string(&b, message, strlen(message));
    }
    if (message && exit->start_error == 0 && exit->code == CLD_EXITED)
        buf_printf(&b, ", \"exit_status\": %d", exit->status);
    else if (message && exit->start_error == 0)
        buf_printf(&b, ", \"signal\": \"SIG%s\"", sigabbrev_np(exit->status));
    if (message && run->usage.cpu_usec >= 0)
        buf_printf(&b, ", \"cpu_usec\": %jd", (intmax_t) run->usage.cpu_usec);
    if (message && run->usage.memory_peak >= 0)
        buf_printf(&b, ", \"memory_peak\": %jd", (intmax_t) run->usage.memory_peak);
    if (message && run->usage.tasks_refused)
        buf_puts(&b, ", \"tasks_max_reached\": true");
    if (lines_any(&run->lines)) {
        buf_puts(&b, b.len > 0 ? ", \"stderr\": " : "{\"stderr\": ");
        lines_write_tail(&run->lines, &b);
    }
    if (run->note) {
        buf_puts(&b, b.len > 0 ? ", \"note\": " : "{\"note\": ");
        json_write_string(&b, run->note, strlen(run->note));
    }
    if (b.len > 0)
        buf_putc(&b, '}');
    if (buf_error(&b) == 0)
        run->error = TAKE_PTR(b.data);
}

static void fail(Run *run, RunOutcome outcome, const RunExit *exit, const char *format, ...) _printf_(4, 5);
static void fail(Run *run, RunOutcome outcome, const RunExit *exit, const char *format, ...) {
    char message[512];
    va_list ap;

    va_start(ap, format);
    (void) vsnprintf(message, sizeof(message), format, ap);
    va_end(ap);
    (void) string_replace(&run->why, message);
    set_error(run, message, exit);
    end(run, outcome, (double) backoff_delay(&run->handler->backoff, run->attempt + run->deferrals) / 1e6);
}

/* Its work is done, whatever it wrote. Blanks at the end of what is whole are no part of it. */
static void succeeded(Run *run, const RunExit *exit) {
    const Buf *out = &run->output;
    size_t n = out->len;

    while (!run->output_cut && n > 0 && memchr("\n\r\t ", out->data[n - 1], 4))
        n--;
    result_make(
        out->data ? out->data : "", n, run->output_cut || buf_error(out) < 0, &run->result, &run->note);
    buf_done(&run->output);
    set_error(run, NULL, exit);
    end(run, RUN_COMPLETED, -1);
}

/* Not its fault; but so many times in a row is. */
static RunOutcome deferred(const Run *run) {
    return run->deferrals < run->handler->defer_max ? RUN_DEFERRED : RUN_RETRY;
}

/* sysexits.h: what an exit status says beside "failed". */
static RunOutcome outcome_of_status(const Run *run, int status) {
    switch (status) {
    case EX_TEMPFAIL:
        return deferred(run);
    case EX_USAGE:
    case EX_DATAERR:
        return RUN_FAILED;
    default:
        return RUN_RETRY;
    }
}

static void unbegun(Run *run, const char *format, ...) _printf_(2, 3);
static void unbegun(Run *run, const char *format, ...) {
    char message[512];
    va_list ap;

    va_start(ap, format);
    (void) vsnprintf(message, sizeof(message), format, ap);
    va_end(ap);
    (void) string_replace(&run->why, message);
    run->unbegun = true;
    end(run, RUN_RETURNED, -1);
}

void run_exited(Run *run, const RunExit *exit) {
    const LogTask task = run_log_task(run);

    notify_close(run->notify);
    lines_end(&run->lines, &task);
    run->usage = exit->usage;
    if (run->interrupted) {
        set_error(run, NULL, exit);
        end(run, RUN_RETURNED, 0);
    } else if (run->cancelled)
        fail(run, RUN_CANCELLED, exit, "cancelled");
    else if (exit->start_error != 0)
        unbegun(run, "cannot start %s: %s", run->handler->argv ? run->handler->argv[0] : "its statement",
            strerror(exit->start_error));
    else if (run->timed_out)
        fail(run, RUN_RETRY, exit, "timed out after %.3g s", (double) run->timeout_usec / 1e6);
    else if (run->lost)
        fail(run, RUN_RETRY, exit, "watchdog: no sign of life for %.3g s",
            (double) run->handler->watchdog_usec / 1e6);
    else if (exit->usage.oom && (exit->code != CLD_EXITED || exit->status != 0))
        fail(run, RUN_RETRY, exit, "oom: it was killed because memory ran out");
    else if (exit->code != CLD_EXITED)
        fail(run, RUN_RETRY, exit, "ended by signal %d (%s)", exit->status, strsignal(exit->status));
    else if (exit->status != 0)
        fail(run, outcome_of_status(run, exit->status), exit, "exit status %d", exit->status);
    else
        succeeded(run, exit);
}

/* The object that joins errors[], of an attempt that was no program. */
static void set_verdict(Run *run, const char *message, const RunVerdict *v) {
    _cleanup_(buf_done) Buf b = {};

    (void) string_replace(&run->why, message);
    buf_puts(&b, "{\"error\": ");
    json_write_string(&b, message, strnlen(message, RUN_MESSAGE_MAX));
    if (v->sqlstate && *v->sqlstate)
        buf_printf(&b, ", \"sqlstate\": \"%s\"", v->sqlstate);
    if (v->tasks_refused)
        buf_puts(&b, ", \"tasks_max_reached\": true");
    if (v->lines && lines_any(v->lines)) {
        buf_puts(&b, ", \"stderr\": ");
        lines_write_tail(v->lines, &b);
    }
    buf_putc(&b, '}');
    if (buf_error(&b) == 0)
        run->error = TAKE_PTR(b.data);
}

static void judged_complete(Run *run, const RunVerdict *v) {
    result_make(v->result, v->result_len, false, &run->result, &run->note);
    set_error(run, NULL, &(RunExit){});
    end(run, RUN_COMPLETED, -1);
}

void run_judged(Run *run, const RunVerdict *v) {
    double delay = v->delayed
                       ? v->delay
                       : (double) backoff_delay(&run->handler->backoff, run->attempt + run->deferrals) / 1e6;
    RunOutcome outcome = v->outcome == RUN_DEFERRED ? deferred(run) : v->outcome;
    char timeout[64];

    if (outcome == RUN_SETTLED)
        end(run, RUN_SETTLED, -1);
    else if (run->interrupted)
        end(run, RUN_RETURNED, 0);
    else if (run->cancelled) {
        set_verdict(run, "cancelled", v);
        end(run, RUN_CANCELLED, delay);
    } else if (v->unbegun)
        unbegun(run, "%s", v->error);
    else if (outcome == RUN_COMPLETED)
        judged_complete(run, v);
    else if (outcome == RUN_RETRY && (run->timed_out || v->timed_out)) {
        (void) snprintf(timeout, sizeof(timeout), "timed out after %.3g s", (double) run->timeout_usec / 1e6);
        set_verdict(run, timeout, v);
        end(run, RUN_RETRY, delay);
    } else {
        if (v->error)
            set_verdict(run, v->error, v);
        end(run, outcome, outcome == RUN_RETURNED ? 0 : delay);
    }
}

void run_refused(Run *run) {
    static const char refused[] = "refused by the database";
    const bool completed = run->outcome == RUN_COMPLETED && run->result;

    run->result = (free(run->result), NULL);
    run->error = (free(run->error), NULL);
    if (completed) {
        (void) string_replace(&run->note, refused);
        set_error(run, NULL, &(RunExit){});
        return;
    }
    set_verdict(run, "result refused by the database", &(RunVerdict){});
    run->outcome = RUN_FAILED;
}

/* ---- start and stop ---- */

static int on_kill(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
    Run *run = userdata;

    run->executor->stop(run, false);
    return 0;
}

void run_stop(Run *run, bool ask) {
    if (run->state != RUN_RUNNING)
        return;
    run->stopping = true;
    run->executor->stop(run, ask);
    if (ask && run->state == RUN_RUNNING &&
        clock_start(&run->clock, run->event, run->handler->kill_grace_usec, on_kill, run) < 0)
        run->executor->stop(run, false);
}

void run_interrupt(Run *run) {
    if (run_is_idle(run))
        run_return(run);
    if (run->state != RUN_RUNNING)
        return;
    run->interrupted = true;
    run_stop(run, false);
}

static int on_timeout(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
    Run *run = userdata;

    run->timed_out = true;
    run_stop(run, true);
    return 0;
}

/* ---- what it says of itself ---- */

static void on_said(void *userdata) {
    Run *run = userdata;

    run->on_said(run, run->userdata);
}

/* It gets so long from now, but never more than its whole timeout anew: who goes on asking goes on, and who falls
 * silent ends. */
static void on_extend(uint64_t usec, void *userdata) {
    Run *run = userdata;

    if (run->stopping || run->timeout_usec == UINT64_MAX)
        return;
    usec = MIN(usec, run->timeout_usec);
    if (usec > clock_left(&run->clock))
        (void) clock_start(&run->clock, run->event, usec, on_timeout, run);
}

static void on_lost(void *userdata) {
    Run *run = userdata;

    if (run->stopping)
        return;
    run->lost = true;
    run_stop(run, true);
}

/* A program can do without its socket, but not without a sign of life that it cannot give: then no watchdog waits. */
void run_open_notify(Run *run) {
    static const NotifyEvents events = { .said = on_said, .extend = on_extend, .lost = on_lost };
    static unsigned number;
    _cleanup_(freep) char *path = NULL;
    char name[16];

    (void) snprintf(name, sizeof(name), "n%u", number++);
    int r = folder_path(name, &path);
    if (r >= 0)
        r = notify_new(&run->notify, run->event, path, run->handler->watchdog_usec, &events, run);
    if (r < 0)
        (void) log_warning_errno(r, "Task %s gets no socket for notifications: %m", run->id_text);
}

void run_start(Run *run, sd_event *event, Handler *handler) {
    RunExit exit = {};

    run->event = event;
    run->handler = handler_ref(handler);
    run->executor = handler->executor;
    run->lines.limit = handler->log_limit;
    if (run->timeout_usec == UINT64_MAX)
        run->timeout_usec = handler->timeout_usec;
    run->state = RUN_RUNNING;
    run->started = time_now_monotonic();
    story_began(run);
    int r = run->executor->start(run, event);
    if (r >= 0 && run->state == RUN_RUNNING && run->timeout_usec != UINT64_MAX)
        r = clock_start(&run->clock, event, run->timeout_usec, on_timeout, run);
    if (r >= 0)
        return;
    run->executor->done(run);
    exit.start_error = -r;
    exit.usage = run->usage;
    run_exited(run, &exit);
}

void run_pause(Run *run, bool pause) {
    if (run->state != RUN_RUNNING || run->stopping || pause == run->pausing || !run->executor->freeze)
        return;
    int r = run->executor->freeze(run, pause);
    if (r < 0)
        story_stuck(run, r); /* asked again soon */
    else
        run->pausing = pause;
}

void run_frozen(Run *run, bool frozen) {
    const uint64_t now = time_now_monotonic();

    if (run->frozen) /* else it goes on before it stood still */
        run->stood += now - run->frozen_at;
    run->frozen_at = now;
    run->frozen = frozen;
    clock_hold(&run->clock, frozen);
    notify_hold(run->notify, frozen);
    story_frozen(run);
    run->on_frozen(run, run->userdata);
}

void run_cancel(Run *run) {
    if (run->cancelled || run->state != RUN_RUNNING)
        return;
    run->cancelled = true;
    story_cancelled(run);
    run_stop(run, true);
}

void run_return(Run *run) {
    run->interrupted = true;
    end(run, RUN_RETURNED, -1);
}
