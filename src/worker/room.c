/* SPDX-License-Identifier: MIT */
/*
 * How many more tasks this worker can take: of all together, and of each handler (Concurrency=).
 */
#include <limits.h>

#include "worker/core.h"

int room_init(Worker *w) {
    unsigned *room = calloc(w->handlers.n + 1, sizeof(unsigned));

    if (!room)
        return -ENOMEM;
    free(w->room);
    w->info.room = w->room = room;
    return 0;
}

/* Slots of frozen tasks that others may use: each slot once, so that what is held here is bounded. */
static size_t lent_slots(const Worker *w) {
    size_t n = 0;

    for (size_t i = 0; !w->config.paused_hold && i < w->n_runs; i++)
        n += w->runs[i]->state == RUN_RUNNING && w->runs[i]->frozen;
    return MIN(n, w->config.concurrency);
}

static size_t free_slots(const Worker *w) {
    const size_t busy = w->n_busy - lent_slots(w);

    return w->draining || busy >= w->config.concurrency ? 0 : w->config.concurrency - busy;
}

static int compare_name(const void *name, const void *entry) {
    return strcmp(name, *(char *const *) entry);
}

static void take_place(Worker *w, const Run *run) {
    char **name = bsearch(run->name, w->handlers.names, w->handlers.n, sizeof(char *), compare_name);

    if (name && w->room[name - w->handlers.names] > 0)
        w->room[name - w->handlers.names]--;
}

size_t room_update(Worker *w) {
    const size_t slots = free_slots(w);
    bool limited = false;
    size_t most = 0;

    for (size_t i = 0; i < w->handlers.n; i++) {
        w->room[i] = (unsigned) MIN(w->handlers.list[i]->concurrency, (uint64_t) UINT_MAX);
        limited = limited || w->room[i] < w->config.concurrency;
    }
    for (size_t i = 0; limited && i < w->n_runs; i++)
        if (w->runs[i]->state != RUN_ENDED)
            take_place(w, w->runs[i]);
    w->narrow = false;
    for (size_t i = 0; i < w->handlers.n; i++) {
        w->room[i] = MIN(w->room[i], (unsigned) slots);
        w->narrow = w->narrow || w->room[i] < slots;
        most = MAX(most, (size_t) w->room[i]);
    }
    return most == 0 ? 0 : slots;
}
