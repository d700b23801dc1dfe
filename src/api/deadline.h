/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Absolute deadlines of connections: however a client dribbles its bytes, it has so long for each part of the
 * conversation and no longer. Knows descriptors and clocks, nothing of HTTP's syntax.
 */
#include <systemd/sd-event.h>

#include "base/util.h"

/* What a connection is at; each has its limit. */
typedef enum DeadlinePart {
    DEADLINE_HEADER, /* a new connection's first request, to the end of its header: 5 s */
    DEADLINE_BODY,   /* from there to the end of the body: 15 s */
    DEADLINE_WORK,   /* the answer is being made: no limit here, who makes it has one */
    DEADLINE_REPLY,  /* the answer is on its way: 30 s */
    DEADLINE_IDLE, /* kept alive, to the end of the next header: 60 s, but 5 s while connections are scarce */
    _DEADLINE_PART_MAX,
} DeadlinePart;

/* Embedded in what stands for a connection. */
typedef struct Deadline {
    struct Deadline *next, *previous;
    DeadlinePart part;
    uint64_t since; /* CLOCK_BOOTTIME, microseconds */
    int fd;         /* not owned */
} Deadline;

typedef struct Deadlines {
    Deadline *first;
    size_t count, scarce_from; /* from so many connections on they are scarce */
    sd_event *event;
    sd_event_source *timer;
} Deadlines;

/* Errors: what sd_event_add_time() says. */
int deadlines_init(Deadlines *all, sd_event *event, size_t scarce_from);
void deadlines_done(Deadlines *all);

/* A connection begins (DEADLINE_HEADER), goes on to its next part, ends. A quarter of a second after its deadline
 * at the latest, both directions of fd are shut down; whoever owns it sees that and closes it. */
void deadline_begin(Deadlines *all, Deadline *d, int fd);
void deadline_next(Deadline *d, DeadlinePart part);
void deadline_end(Deadlines *all, Deadline *d);
