/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The fence of time: how long what runs here may go on, and anything may begin, without another sign of life. Others
 * may take the tasks after the grace period at the earliest, counted from the sending of the last sign that is durable;
 * two thirds of it are this worker's (CLOCK_BOOTTIME). Knows nothing of the database.
 */
#include <systemd/sd-event.h>

#include "base/util.h"

typedef struct Fence {
    uint64_t grace_usec;
    uint64_t proven; /* the sending of the last sign of life that is durable; 0: none yet */
    sd_event_source *timer;
} Fence;

/* late: called once when the time is over, before anything else that the loop has to do. Errors: of sd-event. */
int fence_init(Fence *f, sd_event *event, uint64_t grace_usec, sd_event_time_handler_t late, void *userdata);
void fence_done(Fence *f);

/* A sign of life that was sent at that time is durable. */
void fence_prove(Fence *f, uint64_t sent);

/* Nothing may begin any more, nor go on. */
bool fence_is_late(const Fence *f);

/* Time for the next sign of life. */
bool fence_is_due(const Fence *f);

/* An answer that is older than this when it comes, in microseconds after its question, is none. */
uint64_t fence_patience(const Fence *f);
