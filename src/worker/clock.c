/* SPDX-License-Identifier: MIT */
#include "worker/clock.h"

#include "base/time.h"
#include "base/timer.h"

int clock_start(Clock *c, sd_event *event, uint64_t usec, sd_event_time_handler_t handler, void *userdata) {
    clock_stop(c);
    int r = timer_new(&c->timer, event, 10 * USEC_PER_MSEC, handler, userdata);
    if (r < 0)
        return r;
    c->left = usec;
    return c->held ? 0 : timer_start(c->timer, usec);
}

void clock_hold(Clock *c, bool hold) {
    uint64_t until, now = time_now_boottime();

    if (hold == c->held)
        return;
    c->held = hold;
    if (!c->timer)
        return;
    if (!hold)
        (void) timer_start(c->timer, c->left);
    else if (sd_event_source_get_time(c->timer, &until) >= 0) {
        c->left = until > now ? until - now : 0;
        (void) sd_event_source_set_enabled(c->timer, SD_EVENT_OFF);
    }
}

void clock_stop(Clock *c) {
    c->timer = sd_event_source_disable_unref(c->timer);
}
