/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Handler files: how this host runs the tasks of a name, in unit-file manners (systemd.unit(5)). NAME.conf of the first
 * folder that has it, then the drop-ins NAME.conf.d/ *.conf of all folders, by file name, of each name the first
 * folder's. A link to /dev/null masks a file. A later assignment wins, an empty one goes back to the default.
 *
 *   [Task]
 *   Exec=/usr/bin/convert-video --quiet     absolute path, fixed arguments, "double quotes" around blanks; no shell
 *   Mode=oneshot                            the executor, by name: oneshot, stream or sql
 *   Sql=SELECT app.charge($1)               of Mode=sql; $1: the payload, as jsonb, $2: the task's id
 *   Role=app                                of Mode=sql: runs it with this role's rights
 *   Database=postgresql://app@/pgmill       of Mode=sql: on a session of its own login; the worker's unless given
 *   Concurrency=4                           tasks at once on this worker; infinity: as many as it has slots
 *   ReadAhead=16                            so many more are claimed before there is a slot, 0 to 1000
 *   Timeout=10min                           of an attempt; infinity
 *   KillGrace=10s                           from SIGTERM to SIGKILL
 *   MaxAttempts=5                           1 to 1000
 *   DeferMax=100                            exits of 75 in a row that are not counted as attempts; infinity
 *   Backoff=exponential 1s 1h               doubles, jittered; or: fixed 10s; or a list, whose last repeats: 1s 10s 1min
 *   WatchdogSec=30s                         it says WATCHDOG=1 at least so often; infinity
 *   LogRateLimitIntervalSec=30s             in so long …
 *   LogRateLimitBurst=1000                  … so many lines of an attempt's standard error are logged; infinity: all
 *   RecycleAfter=tasks:10000 memory:512M time:1h   of Mode=stream: then another co-process takes its place
 *   MemoryMax=512M MemoryHigh=400M TasksMax=64 CPUWeight=50 CPUQuota=150%   a line each; see cgroup.h
 */
#include "base/util.h"
#include "worker/executor.h"
#include "worker/lines.h"

#define BACKOFF_STEPS_MAX 16
#define HANDLER_KEYS_MAX  32

typedef struct Backoff {
    uint64_t steps[BACKOFF_STEPS_MAX]; /* microseconds; the last one repeats */
    unsigned n;
    bool exponential; /* two steps: the first, doubled up to the second */
} Backoff;

/* RecycleAfter=: what a co-process may come to before another takes its place; UINT64_MAX: no bound. */
typedef struct Recycle {
    uint64_t tasks, memory, usec;
} Recycle;

/* Read-only once loaded, but for what is last. Whoever runs by one keeps a reference, so a reload takes nothing from what
 * runs. */
struct Handler {
    unsigned refs;
    char *name, *path; /* path: the file that says so, drop-ins apart */

    /* the keys, see handler_keys.c */
    char **argv;
    char *sql, *role, *database; /* NULL where not given */
    const Executor *executor;
    uint64_t concurrency;  /* UINT64_MAX: no limit of its own */
    uint64_t read_ahead;   /* how many more may be here than have a slot */
    uint64_t timeout_usec; /* UINT64_MAX: none */
    uint64_t kill_grace_usec;
    CgroupLimits limits;
    int max_attempts;
    uint64_t defer_max; /* UINT64_MAX: no limit */
    Backoff backoff;
    LinesLimit log_limit;
    uint64_t watchdog_usec; /* UINT64_MAX: none */
    Recycle recycle;

    void *state;        /* the executor's, which lasts as long as the handler */
    uint64_t took_usec; /* how long attempts took of late; 0: none has ended */

    /* rest.c */
    unsigned rests;      /* how often in a row its program could not begin; 0: it does not rest */
    uint64_t rest_until; /* CLOCK_MONOTONIC; then it is tried again */
    char *rest_why;
};

Handler *handler_ref(Handler *h);
Handler *handler_unref(Handler *h); /* returns NULL; NULL is fine */
void handler_unrefp(Handler **h);

/* All handlers of this host, sorted by name; names and tries in parallel, as store/worker.h wants them. */
typedef struct Handlers {
    Handler **list;
    size_t n;
    size_t unusable; /* files that were left out */
    char **names;    /* NULL-terminated, point into list */
    int *tries;
} Handlers;

/*
 * Reads every folder of path (NULL-terminated); one that does not exist is no error. A file that cannot be used is
 * logged with its line and left out, a key that nobody knows is warned about. -ENOMEM.
 */
int handlers_load(char *const *path, Handlers *ret);
void handlers_done(Handlers *h);
Handler *handlers_find(const Handlers *h, const char *name);

/* Microseconds to wait after the given attempt (1: the first) failed; exponential ones are jittered to between half and
 * all of it, so that tasks which failed together do not come back together. */
uint64_t backoff_delay(const Backoff *b, unsigned attempt);

/* One more attempt has taken so long: microseconds, more than 0. */
void handler_took(Handler *h, uint64_t usec);

/* ---- handler_keys.c: what may stand in a file ---- */

/* Every key at its default. -ENOMEM. */
int handler_set_defaults(Handler *h);
/* >= 0: the key's number, below HANDLER_KEYS_MAX. -ENOENT: there is no such key. -EINVAL: no such value, *ret_rule says
 * what it must be. -ENOMEM. */
int handler_set(Handler *h, const char *key, const char *value, const char **ret_rule);
/* The modes that the key of this number means something to, as a list for people; NULL: the handler's is one of them. */
const char *handler_key_modes(const Handler *h, size_t number, const char **ret_key);
void handler_free_keys(Handler *h);
