/* SPDX-License-Identifier: MIT */
/*
 * Takeover at once: a worker that the service manager started anew after its process died gives its predecessor's
 * tasks back without a grace period, because it can see that nothing of them runs. Two proofs together: it is in the same
 * delegated cgroup, on the same boot of the same machine and seen through the same namespace, as the predecessor
 * was, and found it empty; and the predecessor's session lock is free (pgmill.take_over).
 */
#include "base/log.h"
#include "base/log_id.h"
#include "base/service.h"
#include "base/timer.h"
#include "worker/core.h"
#include "worker/spawn.h"

/* The server notices a client's death within half a second; after that the rescuers' grace period does it. */
#define TRY_USEC  (50 * USEC_PER_MSEC)
#define TRIES_MAX 60

static void on_taken_over(_unused_ Db *db, const DbReply *reply, void *userdata) {
    Worker *w = userdata;

    if (reply->outcome == DB_LOST)
        return; /* begun anew with the next session */
    const bool again = reply->outcome == DB_RETRY || reply->outcome == DB_LOCKED;
    if (reply->outcome != DB_OK && !again) {
        log_warning("Cannot take a predecessor's tasks over: %s", reply->message);
        w->took_over = true;
        return;
    }
    if (!again && db_int(reply->rows, 0, 0) > 0) {
        log_event(LOG_NOTICE, LOG_ID_WORKER_RESCUED, NULL,
            "Took %jd tasks over from this worker's former process", (intmax_t) db_int(reply->rows, 0, 0));
        turn_notified(w);
    }
    if ((again || db_int(reply->rows, 0, 1) > 0) && ++w->takeover_tries < TRIES_MAX)
        (void) timer_start(w->takeover_timer, TRY_USEC);
    else
        w->took_over = true;
}

static int on_timer(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
    takeover_begin(userdata);
    return 0;
}

void takeover_begin(Worker *w) {
    if (!w->took_over && w->session)
        (void) worker_take_over(w->db, w->info.id, on_taken_over, w);
}

int takeover_init(Worker *w) {
    _cleanup_(freep) char *boot = NULL, *cgroup = NULL;

    w->took_over = true;
    int r = spawn_identity(&cgroup);
    if (r >= 0)
        r = service_boot_identity(&boot);
    if (r < 0)
        return r == -ENOMEM ? r : 0; /* it cannot tell, and neither can a successor */
    r = string_printf(&w->identity, "%s %s", boot, cgroup);
    if (r < 0)
        return r;
    w->info.identity = w->identity;
    w->took_over = !spawn_was_sole();
    return timer_new(&w->takeover_timer, w->event, USEC_PER_MSEC, on_timer, w);
}

void takeover_done(Worker *w) {
    w->takeover_timer = sd_event_source_disable_unref(w->takeover_timer);
    free(w->identity);
}
