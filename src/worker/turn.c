/* SPDX-License-Identifier: MIT */
/*
 * The turn of the loop, one round trip: claim (its own group, committed asynchronously); what was claimed; finish
 * everything that ended, and the heartbeat (durable). The last answer proves the claim: programs start then, and
 * not before. A turn that only looks for tasks, and has nothing to write, ends with the claim when that is empty.
 */
#include <stdio.h>

#include "base/log.h"
#include "base/log_id.h"
#include "base/service.h"
#include "base/time.h"
#include "base/timer.h"
#include "store/array.h"
#include "worker/core.h"
#include "worker/story.h"

#define AGAIN_FIRST_USEC (100 * USEC_PER_MSEC)
#define AGAIN_MAX_USEC   (2 * USEC_PER_SEC)

static int send_finish(Worker *w);

/* ---- runs ---- */

/* Ids of all runs as an array literal. */
static const char *known_ids(const Worker *w, Buf *b) {
    for (size_t i = 0; i < w->n_runs; i++)
        array_add(b, w->runs[i]->id_text);
    return array_literal(b);
}

/* The same of those that wait for a slot. */
static const char *ahead_ids(const Worker *w, Buf *b) {
    for (size_t i = 0; i < w->n_runs; i++)
        if (w->runs[i]->state == RUN_AHEAD) {
            w->runs[i]->told_ahead = true;
            array_add(b, w->runs[i]->id_text);
        }
    return array_literal(b);
}

static bool to_send(const Run *run) {
    return run->state == RUN_ENDED && !run->locked;
}

static bool any_ended(const Worker *w) {
    for (size_t i = 0; i < w->n_runs; i++)
        if (to_send(w->runs[i]))
            return true;
    return false;
}

void turn_status(Worker *w) {
    char resting[REST_LIST_SIZE];

    if (w->session)
        service_status("%s%zu of %ju slots busy%s", w->draining ? "draining, " : "", room_busy(w),
            (uintmax_t) w->config.concurrency, rest_list(w, resting));
}

/* ---- the fence of time ---- */

/* No durable heartbeat for two thirds of the grace period: others may run these tasks soon. */
static int on_fence(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
    Worker *w = userdata;

    if (w->n_busy > 0)
        log_event(LOG_ERR, LOG_ID_UNPROVEN, NULL,
            "No sign of life reached the database for two thirds of the grace period: ending %zu task%s",
            w->n_busy, PLURAL(w->n_busy));
    runs_kill_all(w);
    return 0;
}

/* ---- claim ---- */

static uint64_t full_scan_period(const Worker *w) {
    return MAX(w->live_workers, UINT64_C(1)) * USEC_PER_SEC;
}

static bool all_dry(const Worker *w) {
    for (size_t i = 0; i < w->n_queues; i++)
        if (!w->queues[i].dry)
            return false;
    return true;
}

static bool at_start(const ClaimPosition *p) {
    for (size_t i = 0; i < WORKER_PRIORITIES; i++)
        if (*p->due_at[i])
            return false;
    return true;
}

/* Look at every queue from its start: before sleeping, in a new session, and now and then for rows that a position
 * passed because somebody held them. */
void turn_scan_from_start(Worker *w) {
    w->full_scan = time_now_boottime();
    for (size_t i = 0; i < w->n_queues; i++) {
        w->queues[i].position = (ClaimPosition){};
        w->queues[i].dry = false;
    }
}

static QueueScan *next_scan(Worker *w) {
    for (size_t i = 0; i < w->n_queues; i++) {
        QueueScan *q = &w->queues[(w->next_queue + i) % w->n_queues];
        if (!q->dry) {
            w->next_queue = (w->next_queue + i + 1) % w->n_queues;
            return q;
        }
    }
    return NULL;
}

static void on_live(_unused_ Db *db, const DbReply *reply, void *userdata) {
    Worker *w = userdata;

    if (reply->outcome == DB_OK)
        w->live_workers = (uint64_t) db_int(reply->rows, 0, 0);
}

static void claim_answered(Worker *w, QueueScan *q, const DbReply *reply) {
    if (reply->outcome != DB_OK) {
        q->dry = true; /* until the next poll */
        if (reply->outcome == DB_FATAL)
            log_error("Cannot claim tasks of queue %s: %s", q->name, reply->message);
        if (reply->outcome == DB_UNKNOWN_WORKER)
            db_reconnect(w->db, "this worker was given up as dead"); /* attach finds the tombstone */
        return;
    }
    w->expect = db_rows(reply->rows) > 0;
    if (w->expect) {
        if (q->whole) /* else it passed tasks for want of room, not for ever */
            worker_position_advance(&q->position, reply->rows);
        if (w->listed)
            (void) worker_awake(w->db, w->info.id);
        w->listed = false;
    } else if (at_start(&q->position))
        q->dry = true;
    else
        q->position = (ClaimPosition){};
}

static void on_claimed(_unused_ Db *db, const DbReply *reply, void *userdata) {
    QueueScan *q = userdata;
    Worker *w = q->worker;
    bool alone = w->claim_alone;

    w->claim_alone = false;
    if (alone)
        w->in_turn = false;
    if (reply->outcome == DB_LOST)
        return;
    claim_answered(w, q, reply);
    if (!alone || !w->session)
        return;
    if (!w->expect)
        turn_want(w, true);
    else if (send_finish(w) < 0)
        db_reconnect(w->db, "cannot send");
}

/* ---- finish ---- */

static void on_claimed_tasks(_unused_ Db *db, const DbReply *reply, void *userdata) {
    Worker *w = userdata;

    if (reply->outcome == DB_INVALID || reply->outcome == DB_FATAL)
        log_error("Cannot read the tasks that were claimed: %s", reply->message);
    for (size_t i = 0; reply->outcome == DB_OK && i < db_rows(reply->rows); i++)
        (void) runs_add(w, reply->rows, i);
}

/* Verdicts are believed when the group's commit is; until then they stand in `sent`. */
static void on_finished(_unused_ Db *db, const DbReply *reply, void *userdata) {
    Worker *w = userdata;

    for (size_t i = 0; reply->outcome == DB_OK && i < db_rows(reply->rows); i++) {
        const char *verdict = db_value(reply->rows, i, 1);
        Id id;
        if (streq(verdict, "done") || id_parse(db_value(reply->rows, i, 0), &id) < 0)
            continue;
        for (size_t k = 0; k < w->n_runs; k++) {
            Run *run = w->runs[k];
            if (!run->sent || !id_equal(run->id, id))
                continue;
            run->locked = streq(verdict, "locked");
            run->refused = !run->locked && run->outcome != RUN_SETTLED;
            run->sent = !run->locked;
        }
    }
}

static bool is_sent(const Run *run) {
    return run->sent;
}

static void turn_proven(Worker *w) {
    for (size_t i = 0; i < w->n_runs; i++)
        if (w->runs[i]->sent)
            story_ended(w->runs[i]);
    runs_remove(w, is_sent);
    fence_prove(&w->fence, w->turn_sent);
    w->beat_wanted = false;
    w->failures = 0;
    w->finish_limit = MIN(w->finish_limit * 2, (size_t) FINISH_MAX);
    runs_start_claimed(w);
}

/* The database refused a result. Alone it is the culprit; in company the half of the batch is tried. */
static void bisect(Worker *w, const char *message) {
    size_t sent = 0;
    Run *last = NULL;

    for (size_t i = 0; i < w->n_runs; i++)
        if (w->runs[i]->sent) {
            sent++;
            last = w->runs[i];
        }
    w->finish_limit = MAX(sent / 2, (size_t) 1);
    if (sent != 1)
        return;
    const LogTask task = run_log_task(last);
    log_event(LOG_ERR, NULL, &task, "The database refused its result: %s", message);
    run_refused(last);
}

static bool is_unproven(const Run *run) {
    return run->state == RUN_CLAIMED;
}

/* Claims that are not proven are forgotten; their rows are still held, so the next turn finds them again. */
static void forget_unproven(Worker *w) {
    for (size_t i = 0; i < w->n_runs; i++)
        w->runs[i]->sent = w->runs[i]->refused = false;
    runs_remove(w, is_unproven);
}

/* Tries again after a pause that grows. A sign of life goes in between: what holds turns up may hold them up for long. */
static void try_again_later(Worker *w) {
    uint64_t pause =
        MIN(AGAIN_FIRST_USEC << MIN(w->failures, 8U), MIN(AGAIN_MAX_USEC, w->info.grace_usec / 12));

    w->failures++;
    w->beat_alone = true;
    (void) timer_start(w->again_timer, pause);
}

static int on_again(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
    turn_want(userdata, false);
    return 0;
}

static bool is_to_wait(const Worker *w) {
    int enabled = SD_EVENT_OFF;

    (void) sd_event_source_get_enabled(w->again_timer, &enabled);
    return enabled != SD_EVENT_OFF;
}

static void turn_failed(Worker *w, const DbReply *reply) {
    if (reply->outcome == DB_INVALID)
        bisect(w, reply->message);
    forget_unproven(w);
    if (reply->outcome == DB_UNKNOWN_WORKER)
        db_reconnect(w->db, "this worker was given up as dead");
    else if (reply->outcome == DB_FATAL) {
        log_error("Cannot finish tasks: %s", reply->message);
        db_reconnect(w->db, "the database refused the worker's turn");
    } else if (reply->outcome != DB_INVALID)
        try_again_later(w);
    w->beat_wanted = true;
}

static void turn_over(Worker *w) {
    w->in_turn = false;
    turn_want(w, false);
    worker_turn_over(w);
}

static void on_turn_done(_unused_ Db *db, const DbReply *reply, void *userdata) {
    Worker *w = userdata;

    if (reply->outcome == DB_LOST) {
        w->in_turn = false;
        return; /* session.c begins anew */
    }
    if (reply->outcome == DB_OK && !reply->warned)
        turn_proven(w);
    else
        turn_failed(w, reply);
    turn_over(w);
}

static size_t collect_ends(Worker *w, RunEnd ends[static FINISH_MAX]) {
    size_t n = 0, bytes = 0;

    for (size_t i = 0; i < w->n_runs && n < MIN(w->finish_limit, (size_t) FINISH_MAX); i++) {
        Run *run = w->runs[i];
        size_t size = (run->result ? strlen(run->result) : 0) + (run->error ? strlen(run->error) : 0);
        if (!to_send(run) || (n > 0 && bytes + size > FINISH_BYTES))
            continue;
        bytes += size;
        run->sent = true;
        ends[n++] = (RunEnd){ .id = run->id,
            .claim_no = run->claim_no,
            .outcome = run->outcome,
            .result = run->result,
            .error = run->error,
            .cpu_usec = run->usage.cpu_usec,
            .memory_peak = run->usage.memory_peak,
            .delay = run->delay };
    }
    return n;
}

/* The second half of a turn. */
static int send_finish(Worker *w) {
    _cleanup_(buf_done) Buf known = {}, ahead = {};
    RunEnd ends[FINISH_MAX];

    w->in_turn = true;
    w->turn_sent = time_now_boottime();
    const char *ids = known_ids(w, &known), *waiting = ahead_ids(w, &ahead);
    int r = buf_error(&known);
    if (r >= 0)
        r = buf_error(&ahead);
    if (r >= 0)
        r = worker_claimed_tasks(w->db, w->info.id, ids, on_claimed_tasks, w);
    if (r >= 0)
        r = worker_finish(w->db, w->info.id, ends, collect_ends(w, ends), waiting, on_finished, w);
    return r < 0 ? r : db_sync(w->db, on_turn_done, w);
}

/* ---- a sign of life alone ---- */

static void on_beat(_unused_ Db *db, const DbReply *reply, void *userdata) {
    Worker *w = userdata;

    w->in_turn = false;
    if (reply->outcome == DB_LOST)
        return;
    if (reply->outcome == DB_OK && !db_bool(reply->rows, 0, 0))
        db_reconnect(w->db, "this worker was given up as dead");
    else if (reply->outcome == DB_OK && !reply->warned)
        fence_prove(&w->fence, w->turn_sent);
    turn_want(w, false);
}

static int send_beat(Worker *w) {
    w->in_turn = true;
    w->beat_alone = false;
    w->turn_sent = time_now_boottime();
    return worker_beat(w->db, w->info.id, on_beat, w);
}

/* ---- the turn ---- */

/* What is owed, and what nothing else brings about: whatever the traffic. */
static int on_poll(sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
    Worker *w = userdata;

    for (size_t i = 0; i < w->n_runs; i++)
        w->runs[i]->locked = false;
    runs_return_late(w);
    rest_look(w);
    fetch_look(w);
    turn_status(w); /* once a second is enough, and as much as the service manager should have to read */
    idle_look(w);
    turn_want(w, false);
    return timer_start(s, POLL_USEC);
}

static int send_claim(Worker *w, QueueScan *q, size_t slots) {
    q->whole = !w->narrow;
    return worker_claim(w->db, &w->info, q->name, (unsigned) slots, &q->position, on_claimed, q);
}

static int turn(Worker *w) {
    if (w->beat_alone)
        return send_beat(w);
    if (is_to_wait(w))
        return 0;
    const size_t slots = w->claim_wanted ? room_update(w, true) : 0;
    bool look = slots > 0;
    int r = w->obey_wanted ? orders_obeyed(w) : 0;
    QueueScan *q;

    if (r >= 0 && !w->named) {
        w->named = true; /* a lost answer is a lost session */
        r = w->draining ? worker_drains(w->db, w->info.id) : rest_serve(w);
    }
    if (r >= 0 && report_due(w))
        r = report_send(w);
    if (r >= 0 && orders_due(w))
        r = orders_ask(w);
    if (r >= 0 && look && time_now_boottime() - w->full_scan >= full_scan_period(w) && !all_dry(w)) {
        turn_scan_from_start(w);
        r = worker_count(w->db, on_live, w);
    }
    q = look ? next_scan(w) : NULL;
    if (r >= 0 && q)
        r = send_claim(w, q, slots);
    if (r < 0)
        return r;
    if ((q && w->expect) || any_ended(w) || w->beat_wanted || fence_is_due(&w->fence))
        return send_finish(w);
    if (q) {
        w->in_turn = w->claim_alone = true;
        return 0;
    }
    return look ? sleep_fall(w) : 0;
}

static int on_turn(_unused_ sd_event_source *s, void *userdata) {
    Worker *w = userdata;

    if (w->session && !w->in_turn && turn(w) < 0)
        db_reconnect(w->db, "cannot send");
    return 0;
}

void turn_want(Worker *w, bool claim) {
    if (claim)
        w->claim_wanted = true;
    if (w->session && !w->in_turn)
        (void) sd_event_source_set_enabled(w->turn_source, SD_EVENT_ONESHOT);
}

void turn_notified(Worker *w) {
    for (size_t i = 0; i < w->n_queues; i++)
        w->queues[i].dry = false;
    w->expect = true;
    turn_want(w, true);
}

void turn_reloaded(Worker *w) {
    w->named = w->listed = false;
    turn_scan_from_start(w); /* a position may have passed tasks of a name that is new */
    turn_notified(w);
    runs_want(w);
}

void turn_session_up(Worker *w) {
    w->in_turn = w->listed = w->claim_alone = w->beat_alone = false;
    w->failures = 0;
    (void) sd_event_source_set_enabled(w->again_timer, SD_EVENT_OFF);
    w->beat_wanted = true;
    turn_scan_from_start(w); /* positions belong to a session */
    turn_want(w, !w->draining);
    turn_status(w);
}

void turn_session_lost(Worker *w) {
    w->in_turn = w->named = false;
    forget_unproven(w);
}

int turn_init(Worker *w) {
    w->finish_limit = FINISH_MAX;
    w->n_queues = config_list_length(w->config.queues);
    w->queues = calloc(w->n_queues + 1, sizeof(QueueScan));
    if (!w->queues)
        return -ENOMEM;
    for (size_t i = 0; i < w->n_queues; i++)
        w->queues[i] = (QueueScan){ .worker = w, .name = w->config.queues[i] };
    int r = sd_event_add_defer(w->event, &w->turn_source, on_turn, w);
    if (r >= 0)
        r = sd_event_source_set_enabled(w->turn_source, SD_EVENT_OFF);
    /* Behind everything else: what ended in this turn of the loop is finished in one statement. */
    if (r >= 0)
        r = sd_event_source_set_priority(w->turn_source, SD_EVENT_PRIORITY_NORMAL + 10);
    if (r >= 0)
        r = sd_event_add_time_relative(
            w->event, &w->poll_timer, CLOCK_BOOTTIME, POLL_USEC, USEC_PER_MSEC, on_poll, w);
    if (r >= 0)
        r = sleep_init(w);
    if (r >= 0)
        r = timer_new(&w->again_timer, w->event, USEC_PER_MSEC, on_again, w);
    return r < 0 ? r : fence_init(&w->fence, w->event, w->info.grace_usec, on_fence, w);
}

void turn_done(Worker *w) {
    free(w->queues);
    w->turn_source = sd_event_source_disable_unref(w->turn_source);
    w->poll_timer = sd_event_source_disable_unref(w->poll_timer);
    sleep_done(w);
    w->again_timer = sd_event_source_disable_unref(w->again_timer);
    fence_done(&w->fence);
}
