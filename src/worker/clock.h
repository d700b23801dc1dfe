/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A one-shot timer that can stand still: of a run that may be frozen. On CLOCK_BOOTTIME.
 */
#include <systemd/sd-event.h>

#include "base/util.h"

typedef struct Clock {
    sd_event_source *timer; /* NULL: not running */
    bool held;
    uint64_t left; /* while held: microseconds it still has */
} Clock;

/* Fires once, so long from now, time spent held not counted; whatever it was set to before. Held, it begins to run
 * when it is let go. */
int clock_start(Clock *c, sd_event *event, uint64_t usec, sd_event_time_handler_t handler, void *userdata);
uint64_t clock_left(const Clock *c); /* microseconds; 0 when it is not running */
void clock_hold(Clock *c, bool hold);
void clock_stop(Clock *c); /* held, it stays so for the next start */
