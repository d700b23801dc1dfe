/* SPDX-License-Identifier: MIT */
/*
 * How many more tasks this worker can take: of all together, of each handler (Concurrency=), and of those that may be
 * here before there is a slot (ReadAhead=).
 */
#include <limits.h>

#include "base/time.h"
#include "worker/core.h"

/* Nobody should wait longer behind tasks that were read ahead, while another worker may be idle. */
#define AHEAD_USEC (100 * USEC_PER_MSEC)
#define AHEAD_MAX  1000 /* claimed at once */

typedef struct Places {
    unsigned taken; /* slots that tasks of the handler hold */
    unsigned soon;  /* of these, such as may be free soon */
    unsigned ahead; /* tasks of it that wait for one */
} Places;

int room_init(Worker *w) {
    unsigned *room = calloc(w->handlers.n + 1, sizeof(unsigned));
    Places *places = calloc(w->handlers.n + 1, sizeof(Places));

    if (!room || !places) {
        free(room);
        free(places);
        return -ENOMEM;
    }
    room_done(w);
    w->info.room = w->room = room;
    w->places = places;
    return 0;
}

void room_done(Worker *w) {
    w->info.room = w->room = (free(w->room), NULL);
    w->places = (free(w->places), NULL);
}

/* A frozen task lends its slot, each slot once, so that what is held here is bounded; one read ahead has none yet. */
size_t room_busy(const Worker *w) {
    size_t lent = 0, ahead = 0;

    for (size_t i = 0; i < w->n_runs; i++) {
        ahead += w->runs[i]->state == RUN_AHEAD;
        lent += w->runs[i]->state == RUN_RUNNING && w->runs[i]->frozen;
    }
    return w->n_busy - ahead - (w->config.paused_hold ? 0 : MIN(lent, w->config.concurrency));
}

static size_t free_slots(const Worker *w) {
    const size_t busy = room_busy(w);

    return w->draining || busy >= w->config.concurrency ? 0 : w->config.concurrency - busy;
}

/* ---- of each handler ---- */

static int compare_name(const void *name, const void *entry) {
    return strcmp(name, *(char *const *) entry);
}

static size_t index_of(const Worker *w, const char *name) { /* n: this host has it no more */
    char **found = bsearch(name, w->handlers.names, w->handlers.n, sizeof(char *), compare_name);

    return found ? (size_t) (found - w->handlers.names) : w->handlers.n;
}

/* The last place stands for all that have no handler now. */
size_t room_count(Worker *w) {
    const uint64_t now = time_now_monotonic();
    bool limited = false;

    memset(w->places, 0, (w->handlers.n + 1) * sizeof(Places));
    for (size_t i = 0; i < w->handlers.n; i++)
        limited = limited || w->handlers.list[i]->concurrency < w->config.concurrency ||
                  w->handlers.list[i]->read_ahead > 0;
    for (size_t i = 0; limited && i < w->n_runs; i++) {
        Places *p = &w->places[index_of(w, w->runs[i]->name)];
        p->taken += w->runs[i]->state < RUN_ENDED && w->runs[i]->state != RUN_AHEAD;
        p->soon += w->runs[i]->state == RUN_CLAIMED ||
                   (w->runs[i]->state == RUN_RUNNING && now - w->runs[i]->started < AHEAD_USEC);
        p->ahead += w->runs[i]->state == RUN_AHEAD;
    }
    return free_slots(w);
}

bool room_take(Worker *w, const char *name) {
    const size_t i = index_of(w, name);

    if (i == w->handlers.n || w->places[i].taken >= w->handlers.list[i]->concurrency)
        return false;
    w->places[i].taken++;
    return true;
}

/* What its slots get done in that time, going by how long attempts took of late; not counting those whose attempt takes longer
 * already. */
static unsigned ahead_room(const Handler *h, const Places *p) {
    if (h->read_ahead == 0 || h->took_usec == 0)
        return 0;
    const uint64_t most = MIN(h->read_ahead, AHEAD_USEC * p->soon / h->took_usec);
    return most > p->ahead ? (unsigned) most - p->ahead : 0;
}

static unsigned slot_room(const Handler *h, const Places *p, size_t slots) {
    return h->concurrency > p->taken ? (unsigned) MIN(h->concurrency - p->taken, (uint64_t) slots) : 0;
}

size_t room_update(Worker *w, bool ahead) {
    size_t slots = room_count(w), extra = 0, most = 0;

    for (size_t i = 0; i < w->handlers.n; i++) {
        const Handler *h = w->handlers.list[i];
        w->room[i] = rest_now(h) ? 0 : slot_room(h, &w->places[i], slots);
        if (w->room[i] == 0 && ahead && !w->draining && !rest_now(h))
            extra += w->room[i] = ahead_room(h, &w->places[i]);
        most = MAX(most, (size_t) w->room[i]);
    }
    if (slots == 0)
        slots = MIN(extra, (size_t) AHEAD_MAX);
    w->narrow = false;
    for (size_t i = 0; i < w->handlers.n; i++)
        w->narrow = w->narrow || w->room[i] < slots;
    return most == 0 ? 0 : slots;
}
