/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Deadlines of connections: however a client dribbles its bytes, it has so long for each part of the conversation. A body
 * or an answer that goes on at DEADLINE_RATE or faster has as long as it takes; below that, the time runs. The client that
 * is late for longest gives way when there is no room for a new one. Knows descriptors and clocks, nothing of HTTP's
 * syntax.
 */
#include <systemd/sd-event.h>

#include "base/util.h"

#define DEADLINE_RATE 8192 /* bytes a second */

/* What a connection is at; each has its limit. */
typedef enum DeadlinePart {
    DEADLINE_OPEN,   /* a new connection, to the end of its first line: 5 s */
    DEADLINE_HEADER, /* from there to the end of the header: 5 s */
    DEADLINE_BODY,   /* from there to the end of the body: 15 s */
    DEADLINE_WORK,   /* the answer is being made: no limit here, who makes it has one */
    DEADLINE_REPLY,  /* the answer is on its way: 30 s */
    DEADLINE_IDLE,   /* kept alive, to the end of the next line: 60 s, but 5 s while connections are scarce */
    _DEADLINE_PART_MAX,
} DeadlinePart;

/* Embedded in what stands for a connection. */
typedef struct Deadline {
    struct Deadlines *all;
    struct Deadline *next, *previous;
    DeadlinePart part;
    uint64_t since; /* CLOCK_BOOTTIME, microseconds: it began then, or was last as fast as it must be */
    uint64_t bytes; /* moved since then */
    int fd;         /* not owned */
    int held;       /* bytes of an answer that the kernel had for the client at the last look */
    bool cut;       /* shut down already, and not yet closed by its owner */
} Deadline;

typedef struct Deadlines {
    Deadline *first, *last; /* by since, the latest one first */
    size_t count, cut;
    size_t most, room; /* connections; room: but for the reserve. From half of that on they are scarce. */
    void (*late)(const Deadline *d);
    sd_event *event;
    sd_event_source *timer;
} Deadlines;

/* late: called for one that is shut down because its time is over, before that. most: so many connections are open at most, and reserve of them should not be. Errors: what sd_event_add_time()
 * says. */
int deadlines_init(
    Deadlines *all, sd_event *event, void (*late)(const Deadline *d), size_t most, size_t reserve);
void deadlines_done(Deadlines *all);

/* A connection begins (DEADLINE_OPEN), goes on to its next part, ends. A quarter of a second after its deadline
 * at the latest, both directions of fd are shut down; whoever owns it sees that and closes it. */
void deadline_begin(Deadlines *all, Deadline *d, int fd);
void deadline_next(Deadline *d, DeadlinePart part);
void deadline_end(Deadline *d);

/* So many bytes of its part came. Of answers it looks by itself what the kernel still has of them. */
void deadline_moved(Deadline *d, uint64_t bytes);

/* Connections that are not about to be closed. */
static inline size_t deadlines_open(const Deadlines *all) {
    return all->count - all->cut;
}

/* Shuts down the connection that is at its part for longest, if that is one of parts (a sum of 1 << DEADLINE_…) and at
 * it for a second: a quarter for the first two, since a client that means well sends those at once. False: none. */
bool deadlines_yield(Deadlines *all, unsigned parts);

/* The same, of any part but DEADLINE_WORK, while more connections than there is room for are open: for each new one,
 * and by itself with the next look at the deadlines. False: there are still too many. */
bool deadlines_make_room(Deadlines *all);
