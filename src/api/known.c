/* SPDX-License-Identifier: MIT */
#include "api/known.h"

#include "base/time.h"

#define KNOWN_MAX  1024 /* more are asked about each time */
#define LASTS_USEC USEC_PER_SEC

typedef struct Known {
    char *queue, *name, *warning; /* queue NULL: the place is free */
} Known;

static Known places[2 * KNOWN_MAX];
static size_t count;
static uint64_t since; /* CLOCK_BOOTTIME, of the oldest */

static void known_done(Known *k) {
    free(k->queue);
    free(k->name);
    free(k->warning);
    *k = (Known){};
}

static void forget_old(void) {
    uint64_t now = time_now_boottime();

    if (now - since < LASTS_USEC)
        return;
    for (size_t i = 0; count > 0 && i < ELEMENTS(places); i++)
        known_done(&places[i]);
    count = 0;
    since = now;
}

static uint32_t hash_add(uint32_t hash, const char *s) {
    do
        hash = (hash ^ (unsigned char) *s) * 16777619U; /* FNV-1a */
    while (*s++);
    return hash;
}

static const char *queue_of(const TaskNew *task) {
    return task->queue ? task->queue : TASK_QUEUE_DEFAULT;
}

/* Where it is, or would be. */
static Known *place_of(const TaskNew *task) {
    const char *queue = queue_of(task);
    size_t i = hash_add(hash_add(2166136261U, queue), task->name) % ELEMENTS(places);

    while (places[i].queue && !(streq(places[i].queue, queue) && streq(places[i].name, task->name)))
        i = (i + 1) % ELEMENTS(places);
    return &places[i];
}

int known_look(TaskNew *task, const char *maker, unsigned queues_max) {
    forget_old();
    const Known *k = place_of(task);
    if (k->queue)
        return k->warning ? string_replace(&task->warning, k->warning) : 0;
    task->queues_max = queues_max;
    return string_replace(&task->maker, maker);
}

void known_add(const TaskNew *task, const char *warning) {
    forget_old();
    Known *k = place_of(task);
    if (k->queue || count == KNOWN_MAX)
        return;
    if (string_replace(&k->queue, queue_of(task)) < 0 || string_replace(&k->name, task->name) < 0 ||
        (warning && string_replace(&k->warning, warning) < 0))
        return known_done(k);
    count++;
}
