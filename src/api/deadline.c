/* SPDX-License-Identifier: MIT */
#include "api/deadline.h"

#include <sys/socket.h>

#include "base/time.h"

#define SCAN_USEC (250 * USEC_PER_MSEC)

static const uint64_t limits[_DEADLINE_PART_MAX] = {
    [DEADLINE_HEADER] = 5 * USEC_PER_SEC,
    [DEADLINE_BODY] = 15 * USEC_PER_SEC,
    [DEADLINE_WORK] = UINT64_MAX,
    [DEADLINE_REPLY] = 30 * USEC_PER_SEC,
    [DEADLINE_IDLE] = 60 * USEC_PER_SEC,
};

static int timer_set(Deadlines *all) {
    int r = sd_event_source_set_time_relative(all->timer, SCAN_USEC);
    return r < 0 ? r : sd_event_source_set_enabled(all->timer, SD_EVENT_ONESHOT);
}

/* A few thousand comparisons four times a second; a heap would be faster and longer. */
static int on_timer(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
    Deadlines *all = userdata;
    uint64_t now = time_now_boottime();
    bool scarce = all->count >= all->scarce_from;

    for (Deadline *d = all->first; d; d = d->next) {
        uint64_t limit = limits[scarce && d->part == DEADLINE_IDLE ? DEADLINE_HEADER : d->part];
        if (now - d->since >= limit)
            (void) shutdown(d->fd, SHUT_RDWR);
    }
    return all->first ? timer_set(all) : 0;
}

int deadlines_init(Deadlines *all, sd_event *event, size_t scarce_from) {
    *all = (Deadlines){ .event = sd_event_ref(event), .scarce_from = scarce_from };
    int r = sd_event_add_time_relative(
        event, &all->timer, CLOCK_BOOTTIME, SCAN_USEC, SCAN_USEC / 4, on_timer, all);
    return r < 0 ? r : sd_event_source_set_enabled(all->timer, SD_EVENT_OFF);
}

void deadlines_done(Deadlines *all) {
    all->timer = sd_event_source_disable_unref(all->timer);
    all->event = sd_event_unref(all->event);
}

void deadline_begin(Deadlines *all, Deadline *d, int fd) {
    d->fd = fd;
    deadline_next(d, DEADLINE_HEADER);
    d->previous = NULL;
    d->next = all->first;
    if (d->next)
        d->next->previous = d;
    else
        (void) timer_set(all); /* off while there is no connection: an idle service does not wake up */
    all->first = d;
    all->count++;
}

void deadline_next(Deadline *d, DeadlinePart part) {
    d->part = part;
    d->since = time_now_boottime();
}

void deadline_end(Deadlines *all, Deadline *d) {
    if (d->previous)
        d->previous->next = d->next;
    else
        all->first = d->next;
    if (d->next)
        d->next->previous = d->previous;
    all->count--;
}
