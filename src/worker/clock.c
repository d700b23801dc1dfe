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

uint64_t clock_left(const Clock *c) {
    uint64_t until, now = time_now_boottime();

    if (!c->timer || c->held)
        return c->timer ? c->left : 0;
    return sd_event_source_get_time(c->timer, &until) >= 0 && until > now ? until - now : 0;
}

void clock_hold(Clock *c, bool hold) {
    if (hold == c->held)
        return;
    if (hold)
        c->left = clock_left(c);
    c->held = hold;
    if (!c->timer)
        return;
    if (hold)
        (void) sd_event_source_set_enabled(c->timer, SD_EVENT_OFF);
    else
        (void) timer_start(c->timer, c->left);
}

void clock_stop(Clock *c) {
    c->timer = sd_event_source_disable_unref(c->timer);
}
