/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Handler files: how this host runs the tasks of a name. NAME.conf in the first folder that has it, with drop-ins
 * NAME.conf.d/ *.conf from all of them, in unit-file manners.
 *
 *   [Task]
 *   Exec=/usr/bin/convert-video --quiet     absolute path, fixed arguments, "double quotes" around blanks; no shell
 *   Mode=oneshot                            the executor, by name
 *   Timeout=10min                           of an attempt; infinity unless told
 *   MaxAttempts=5                           3 unless told
 *   Backoff=exponential 1s 1h               or: fixed 10s
 */
#include "base/util.h"
#include "worker/executor.h"

typedef struct Backoff {
    bool fixed;
    uint64_t first_usec, max_usec;
} Backoff;

typedef struct Handler {
    char *name;
    char **argv;
    const Executor *executor;
    uint64_t timeout_usec; /* UINT64_MAX: none */
    int max_attempts;
    Backoff backoff;
} Handler;

/* All handlers of this host, sorted by name; names and tries in parallel, as store/worker.h wants them. */
typedef struct Handlers {
    Handler *list;
    size_t n;
    char **names; /* NULL-terminated, point into list */
    int *tries;
} Handlers;

/*
 * Reads every folder of path (NULL-terminated); one that does not exist is no error. A file that cannot be used is
 * logged with its line and left out, a key that nobody knows is warned about. -ENOMEM.
 */
int handlers_load(char *const *path, Handlers *ret);
void handlers_done(Handlers *h);
const Handler *handlers_find(const Handlers *h, const char *name);

/* Microseconds to wait after the given attempt (1: the first) failed, jittered to between half and all of it. */
uint64_t backoff_delay(const Backoff *b, unsigned attempt);
