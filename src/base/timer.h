/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * One-shot timers of the loop, on CLOCK_BOOTTIME, which goes on while the machine sleeps.
 */
#include <systemd/sd-event.h>

#include "base/util.h"

/* A timer that is off. accuracy: how much later it may fire, in microseconds (sd-event's own default would be 250 ms).
 * Errors: what sd_event_add_time() says; *ret is then NULL. */
int timer_new(sd_event_source **ret, sd_event *event, uint64_t accuracy, sd_event_time_handler_t handler,
    void *userdata);

/* Fires once, so many microseconds from now, whatever was set before. Fails only for a source that is no timer. */
int timer_start(sd_event_source *timer, uint64_t usec);
