/* SPDX-License-Identifier: MIT */
#include "worker/fence.h"

#include "base/time.h"

int fence_init(Fence *f, sd_event *event, uint64_t grace_usec, sd_event_time_handler_t late, void *userdata) {
    *f = (Fence){ .grace_usec = grace_usec };
    int r = sd_event_add_time(event, &f->timer, CLOCK_BOOTTIME, UINT64_MAX, USEC_PER_MSEC, late, userdata);
    if (r < 0)
        return r;
    /* A process that stood still finds answers and this timer at once: programs end before an answer is acted upon. */
    r = sd_event_source_set_priority(f->timer, SD_EVENT_PRIORITY_IMPORTANT);
    return r < 0 ? r : sd_event_source_set_enabled(f->timer, SD_EVENT_OFF);
}

void fence_done(Fence *f) {
    f->timer = sd_event_source_disable_unref(f->timer);
}

static uint64_t end(const Fence *f) {
    return f->proven + f->grace_usec * 2 / 3;
}

void fence_prove(Fence *f, uint64_t sent) {
    f->proven = sent;
    (void) sd_event_source_set_time(f->timer, end(f));
    (void) sd_event_source_set_enabled(f->timer, SD_EVENT_ONESHOT);
}

bool fence_is_late(const Fence *f) {
    return time_now_boottime() >= end(f);
}

bool fence_is_due(const Fence *f) {
    return time_now_boottime() - f->proven >= f->grace_usec / 6;
}

uint64_t fence_patience(const Fence *f) {
    return f->grace_usec / 3;
}
