/* SPDX-License-Identifier: MIT */
#include "api/deadline.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/time.h"
#include "base/timer.h"

#define SCAN_USEC (250 * USEC_PER_MSEC)

static const uint64_t limits[_DEADLINE_PART_MAX] = {
    [DEADLINE_OPEN] = 5 * USEC_PER_SEC,
    [DEADLINE_HEADER] = 5 * USEC_PER_SEC,
    [DEADLINE_BODY] = 15 * USEC_PER_SEC,
    [DEADLINE_WORK] = UINT64_MAX,
    [DEADLINE_REPLY] = 30 * USEC_PER_SEC,
    [DEADLINE_IDLE] = 60 * USEC_PER_SEC,
};

#define BEGINNING  (1U << DEADLINE_OPEN | 1U << DEADLINE_HEADER)
#define HASTE_USEC (250 * USEC_PER_MSEC) /* a header should not take longer, in need */
#define GRACE_USEC USEC_PER_SEC          /* nor any other part */

static void cut(Deadline *d) {
    if (!d->cut)
        d->all->cut++;
    d->cut = true;
    (void) shutdown(d->fd, SHUT_RDWR);
}

/* Will nothing more come? libmicrohttpd does not learn that where the end came right behind a request. */
static bool has_said_all(const Deadline *d) {
    char c;

    return recv(d->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

/* New ones wait to be accepted, and nobody knows how many: requests that are not coming make room for half of all. */
static void make_haste(Deadlines *all) {
    if (deadlines_open(all) < all->most)
        return;
    while (deadlines_open(all) > all->room / 2)
        if (!deadlines_yield(all, BEGINNING | 1U << DEADLINE_BODY))
            return;
}

/* What the kernel has for a client changes as the client takes it, and as it is filled up because the client did. */
static void look_at_reply(Deadline *d) {
    int held, before = d->held;

    if (ioctl(d->fd, SIOCOUTQ, &held) < 0)
        return;
    d->held = held;
    deadline_moved(d, (uint64_t) (held > before ? held - before : before - held));
}

/* A few thousand comparisons four times a second; a heap would be faster and longer. */
static int on_timer(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
    Deadlines *all = userdata;
    uint64_t now = time_now_boottime();
    bool scarce = all->count >= all->room / 2;

    for (Deadline *d = all->first, *next; d; d = next) {
        next = d->next;
        if (d->part == DEADLINE_REPLY)
            look_at_reply(d); /* which may put it first */
        uint64_t limit = limits[scarce && d->part == DEADLINE_IDLE ? DEADLINE_OPEN : d->part];
        uint64_t took = now > d->since ? now - d->since : 0;
        bool new_here = took < 2 * SCAN_USEC; /* it is asked once or twice */
        if (took >= limit && !d->cut)
            all->late(d);
        if (took >= limit || (d->part == DEADLINE_IDLE && new_here && has_said_all(d)))
            cut(d);
    }
    make_haste(all);
    (void) deadlines_make_room(all);
    return all->first ? timer_start(all->timer, SCAN_USEC) : 0;
}

int deadlines_init(
    Deadlines *all, sd_event *event, void (*late)(const Deadline *d), size_t most, size_t reserve) {
    *all = (Deadlines){ .late = late, .event = sd_event_ref(event), .most = most, .room = most - reserve };
    return timer_new(&all->timer, event, SCAN_USEC / 4, on_timer, all);
}

void deadlines_done(Deadlines *all) {
    all->timer = sd_event_source_disable_unref(all->timer);
    all->event = sd_event_unref(all->event);
}

static void put_first(Deadline *d) {
    Deadlines *all = d->all;

    d->previous = NULL;
    d->next = all->first;
    *(d->next ? &d->next->previous : &all->last) = d;
    all->first = d;
}

static void take_out(Deadline *d) {
    *(d->previous ? &d->previous->next : &d->all->first) = d->next;
    *(d->next ? &d->next->previous : &d->all->last) = d->previous;
}

void deadline_begin(Deadlines *all, Deadline *d, int fd) {
    *d = (Deadline){ .all = all, .part = DEADLINE_OPEN, .since = time_now_boottime(), .fd = fd };
    if (!all->first)
        (void) timer_start(
            all->timer, SCAN_USEC); /* off while there is no connection: an idle service does not wake up */
    put_first(d);
    all->count++;
}

void deadline_next(Deadline *d, DeadlinePart part) {
    d->part = part;
    d->since = time_now_boottime();
    d->bytes = 0;
    take_out(d);
    put_first(d);
}

/* As fast as it must be since the last time that it was: the time begins anew. Bytes beyond that are no credit. */
void deadline_moved(Deadline *d, uint64_t bytes) {
    d->bytes += bytes;
    if (d->bytes * USEC_PER_SEC >= (time_now_boottime() - d->since) * DEADLINE_RATE)
        deadline_next(d, d->part);
}

void deadline_end(Deadline *d) {
    take_out(d);
    d->all->count--;
    d->all->cut -= d->cut;
}

bool deadlines_yield(Deadlines *all, unsigned parts) {
    uint64_t now = time_now_boottime();

    for (Deadline *d = all->last; d && now - d->since >= HASTE_USEC; d = d->previous) {
        uint64_t least = BEGINNING & 1U << d->part ? HASTE_USEC : GRACE_USEC;
        if (!d->cut && (parts & 1U << d->part) && now - d->since >= least) {
            cut(d);
            return true;
        }
    }
    return false;
}

bool deadlines_make_room(Deadlines *all) {
    const unsigned parts = BEGINNING | 1U << DEADLINE_BODY | 1U << DEADLINE_REPLY | 1U << DEADLINE_IDLE;

    while (deadlines_open(all) > all->room)
        if (!deadlines_yield(all, parts))
            return false;
    return true;
}
