/* SPDX-License-Identifier: MIT */
#include "worker/worker.h"

#include <signal.h>
#include <stdio.h>
#include <sysexits.h>

#include "base/log.h"
#include "base/service.h"
#include "base/time.h"
#include "base/timer.h"
#include "base/variables.h"
#include "store/task.h"
#include "worker/control.h"
#include "worker/coprocess.h"
#include "worker/core.h"
#include "worker/spawn.h"

#define DRAIN_TICK_USEC  (2 * USEC_PER_SEC)
#define ABORT_USEC       (3 * USEC_PER_SEC) /* from the watchdog's end to its own: TimeoutAbortSec= and the kill */
#define EXTEND_USEC      (15 * USEC_PER_SEC) /* a loop that is late must not end what a watchdog would let live */
#define LEAVE_LIMIT_USEC (10 * USEC_PER_SEC) /* after the last program's end: to write what became of it */
#define AWAY_LIMIT_USEC  (3 * USEC_PER_SEC)  /* … when there is nothing to write but that it leaves */

typedef struct Drain {
    uint64_t until; /* CLOCK_BOOTTIME: programs may run so long, then they are killed and go back */
    uint64_t leave; /* … and the process ends, whatever could be written */
    uint64_t away;  /* since then nothing runs, and there is no database to tell; 0: not so */
} Drain;

static Drain drain;

void worker_fatal(Worker *w, int exit_status) {
    w->exit_status = exit_status;
    (void) sd_event_exit(w->event, 0);
}

/* ---- handlers ---- */

static int use_handlers(Worker *w, Handlers *h) {
    handlers_done(&w->handlers);
    w->handlers = *h;
    w->info.names = w->handlers.names;
    w->info.tries = w->handlers.tries;
    return room_init(w);
}

/* What runs keeps what it was started with; the next claim asks for the new names. */
static int on_reload(
    _unused_ sd_event_source *s, _unused_ const struct signalfd_siginfo *si, void *userdata) {
    Worker *w = userdata;
    Handlers h;

    if (w->draining)
        return 0;
    if (w->said_ready) /* else READY=1 would come too early */
        service_reloading();
    int r = handlers_load(w->config.tasks, &h);
    if (r >= 0 && use_handlers(w, &h) < 0)
        return -ENOMEM; /* the loop ends, and the service manager starts another process */
    if (r < 0)
        log_error("Out of memory; the handlers stay as they were");
    else
        log_info("Read %zu handler%s", w->handlers.n, PLURAL(w->handlers.n));
    if (w->said_ready)
        service_reloaded();
    turn_reloaded(w);
    return 0;
}

/* ---- drain ---- */

static void on_left(_unused_ Db *db, const DbReply *reply, void *userdata) {
    Worker *w = userdata;

    if (reply->outcome == DB_OK && db_bool(reply->rows, 0, 0)) {
        log_info("Drained; nothing of this worker is left");
        worker_fatal(w, EX_OK);
        return;
    }
    w->leaving = false;
    w->beat_wanted = true;
    turn_want(w, false); /* a claim that nobody knew of: the next turn finds it and gives it back */
}

void worker_turn_over(Worker *w) {
    if (!w->draining || w->leaving || w->n_runs > 0 || !w->session || coprocess_any_ending())
        return;
    w->leaving = worker_leave(w->db, w->info.id, on_left, w) >= 0;
}

static void on_coprocess_gone(void *userdata) {
    worker_turn_over(userdata);
}

/* Nobody waits longer for a database than it takes to write the little that is left, however long programs might run. */
static bool must_leave(const Worker *w, uint64_t now) {
    if (w->session || w->n_busy > 0 || coprocess_any_ending())
        drain.away = 0;
    else if (drain.away == 0)
        drain.away = now;
    return now >= drain.leave ||
           (drain.away > 0 && now - drain.away >= (w->n_runs > 0 ? LEAVE_LIMIT_USEC : AWAY_LIMIT_USEC));
}

static int on_drain_tick(sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
    Worker *w = userdata;
    uint64_t now = time_now_boottime();

    if (must_leave(w, now)) {
        if (w->n_runs > 0)
            log_warning("Leaving with %zu task%s not given back, for others to rescue after the grace period",
                w->n_runs, PLURAL(w->n_runs));
        else
            log_notice("Leaving while the database is away; nothing runs here");
        worker_fatal(w, w->n_runs > 0 ? EX_TEMPFAIL : EX_OK);
        return 0;
    }
    if (now >= drain.until) {
        runs_kill_all(w);
        coprocess_kill_ending();
    }
    worker_turn_over(w);
    service_extend_timeout(EXTEND_USEC); /* so that DrainSec= counts, and not TimeoutStopSec= */
    return timer_start(s, MIN(DRAIN_TICK_USEC, now < drain.until ? drain.until - now : DRAIN_TICK_USEC));
}

void worker_drain(Worker *w) {
    uint64_t now = time_now_boottime();

    service_stopping();
    drain.until = w->draining ? now : now + MIN(w->config.drain_usec, 366 * 86400 * USEC_PER_SEC);
    drain.leave = drain.until + LEAVE_LIMIT_USEC;
    w->draining = true;
    runs_return_idle(w);
    (void) use_handlers(w, &(Handlers){}); /* the last run of each ends it, and with it a co-process */
    w->claim_wanted = false;
    w->listed = w->named = false;
    turn_status(w);
    turn_want(w, false);
    (void) timer_start(w->drain_timer, 0);
}

/* The first signal drains, the second ends the programs now. */
static int on_stop(_unused_ sd_event_source *s, _unused_ const struct signalfd_siginfo *si, void *userdata) {
    Worker *w = userdata;

    if (!w->said_ready && w->n_runs == 0) {
        service_stopping();
        worker_fatal(w, EX_OK); /* never got as far as a session */
        return 0;
    }
    log_info(w->draining ? "Ending %zu running task%s" : "Draining, with %zu task%s running", w->n_busy,
        PLURAL(w->n_busy));
    worker_drain(w);
    return 0;
}

/* ---- start ---- */

static int labels_check(char *const *list, const char *what) {
    for (; *list; list++)
        if (!task_label_valid(*list)) {
            log_error("\"%s\" is no name of a %s: " TASK_LABEL_RULE, *list, what);
            return -EINVAL;
        }
    return 0;
}

/* One that is stuck must have been ended before others take its tasks: pgmill-worker@.service(8). */
static void grace_check(const Worker *w) {
    uint64_t watchdog = service_watchdog(), least = (watchdog + ABORT_USEC) / 2 * 3;
    char text[2][TIME_SPAN_SIZE];

    if (watchdog > 0 && w->config.grace_usec <= least)
        log_warning(
            "Grace= is too short beside WatchdogSec=%s: should this worker be stuck, its tasks could begin "
            "elsewhere while they run here. Lower that, or let Grace= be over %s",
            time_format_span(watchdog, text[0]), time_format_span(least, text[1]));
}

static void on_variable(void *userdata, unsigned line, const char *name, _unused_ const char *value) {
    const char *why = config_variable_useless(name);

    if (why)
        log_warning("%s:%u: %s= %s; ignored", (const char *) userdata, line, name, why);
}

/* The service manager reads that file, and would say nothing of what it does not know. */
static int variables_check(const Worker *w) {
    _cleanup_(freep) char *path = NULL;

    int r = config_variables_path(&w->config, w->info.instance, &path);
    if (r >= 0)
        (void) variables_read(path, on_variable, path);
    return r;
}

static int init(Worker *w, int argc, char *argv[]) {
    Handlers h;
    char **args;

    int r = config_load(&w->config, "Worker", argc, argv, &args);
    if (r < 0)
        return r;
    if (!args[0] || args[1]) {
        log_error("\"pgmill worker\" takes one argument, the name of this worker");
        return -EINVAL;
    }
    r = labels_check((char *[]){ args[0], NULL }, "worker");
    if (r >= 0)
        r = labels_check(w->config.queues, "queue");
    if (r < 0)
        return r;
    if (!w->config.queues[0]) {
        log_error("--queues: names no queue");
        return -EINVAL;
    }
    if (gethostname(w->host, sizeof(w->host) - 1) < 0)
        return -errno;
    w->info = (WorkerInfo){
        .instance = args[0], .host = w->host, .grace_usec = w->config.grace_usec, .queues = w->config.queues
    };
    grace_check(w);
    r = variables_check(w);
    if (r < 0)
        return r;
    r = handlers_load(w->config.tasks, &h);
    if (r < 0)
        return r;
    r = use_handlers(w, &h);
    if (r < 0)
        return r;
    if (w->handlers.n == 0)
        log_warning(
            "There is no handler file in any of the folders of TasksPath=: this worker can run nothing");
    r = spawn_setup();
    if (r < 0)
        return r;
    service_want_descriptors(2 * w->config.concurrency * RUN_DESCRIPTORS + 100);
    r = service_loop_new(&w->event, on_stop, on_reload, w);
    if (r >= 0)
        r = timer_new(&w->drain_timer, w->event, USEC_PER_MSEC, on_drain_tick, w);
    if (r >= 0)
        r = control_new(&w->control, w);
    if (r >= 0)
        r = takeover_init(w);
    if (r >= 0)
        r = runs_init(w);
    if (r >= 0)
        r = turn_init(w);
    coprocess_on_gone(on_coprocess_gone, w);
    return r < 0 ? r : session_open(w);
}

static void done(Worker *w) {
    w->control = control_free(w->control);
    fetch_done(w);
    session_close(w);
    turn_done(w);
    runs_done(w);
    takeover_done(w);
    handlers_done(&w->handlers);
    room_done(w);
    coprocess_done();
    spawn_done();
    w->drain_timer = sd_event_source_disable_unref(w->drain_timer);
    w->event = sd_event_unref(w->event);
    config_done(&w->config);
}

static int worker_run(int argc, char *argv[]) {
    _cleanup_(done) Worker w = {};
    _cleanup_(service_stoppingp) int unused _unused_ = 0;

    log_open("pgmill-worker");
    int r = init(&w, argc, argv);
    if (r < 0) {
        if (r == -ENOMEM)
            log_error("Out of memory");
        return config_exit_status(r);
    }
    log_info("Worker %s: %zu handler%s, %ju slot%s", w.info.instance, w.handlers.n, PLURAL(w.handlers.n),
        (uintmax_t) w.config.concurrency, PLURAL(w.config.concurrency));
    r = sd_event_loop(w.event);
    if (r < 0) {
        (void) log_error_errno(r, "The event loop failed: %m");
        return EX_SOFTWARE;
    }
    return w.exit_status;
}

const Verb worker_verb = {
    .name = "worker",
    .run = worker_run,
    .arguments = "[OPTION…] NAME",
    .summary = "Run tasks",
    .help =
        "NAME is this worker's name, as in pgmill-worker@NAME.service. SIGTERM drains, a second one ends\n"
        "what runs; SIGHUP reads the handler files again.\n",
    .section = "Worker",
};
