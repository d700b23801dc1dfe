/* SPDX-License-Identifier: MIT */
/*
 * A worker that finds nothing to do says so (pgmill.sleep), looks once more, and sleeps until it is told of a task, the next
 * one is due, or a second is over.
 */
#include "base/time.h"
#include "base/timer.h"
#include "worker/core.h"

/* The word that this worker sleeps is committed; one more look, since a task that came before it told nobody. */
static void on_listed_asleep(_unused_ Db *db, const DbReply *reply, void *userdata) {
    Worker *w = userdata;
    uint64_t wait = POLL_USEC;

    w->in_turn = false;
    if (reply->outcome == DB_LOST)
        return;
    if (reply->outcome == DB_OK && db_value(reply->rows, 0, 0))
        wait = MIN(wait, (uint64_t) (MAX(db_double(reply->rows, 0, 0), 0.0) * 1e6));
    w->wake_at = time_now_boottime() + wait;
    w->listed = true;
    turn_scan_from_start(w);
    turn_want(w, true);
}

/* Every queue is dry: say so and look once more, or sleep if that is done. One that could only read ahead is told of
 * nothing: whoever has a slot comes first. */
int sleep_fall(Worker *w) {
    if (room_update(w, false) == 0) {
        w->narrow = true; /* look again when one has ended */
        return 0;
    }
    if (!w->listed) {
        w->in_turn = true;
        return worker_sleep(w->db, &w->info, on_listed_asleep, w);
    }
    w->claim_wanted = false;
    (void) sd_event_source_set_time(w->wake_timer, w->wake_at);
    return sd_event_source_set_enabled(w->wake_timer, SD_EVENT_ONESHOT);
}

static int on_wake(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
    Worker *w = userdata;

    if (w->session && !w->claim_wanted && !w->draining) {
        w->listed = false; /* say it again: the answer tells when the next task is due */
        turn_want(w, true);
    }
    return 0;
}

int sleep_init(Worker *w) {
    return timer_new(&w->wake_timer, w->event, USEC_PER_MSEC, on_wake, w);
}

void sleep_done(Worker *w) {
    w->wake_timer = sd_event_source_disable_unref(w->wake_timer);
}
