/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What runs a task: one struct of functions a mode. A new mode is one file and one row in executors[].
 */
#include <systemd/sd-event.h>

#include "base/util.h"
#include "worker/cgroup.h"

typedef struct Run Run;
typedef struct Handler Handler;

/* What is known of an attempt when it is over. */
typedef struct RunExit {
    int start_error;  /* errno: the program could not be started; then nothing else counts */
    int code, status; /* CLD_EXITED and the exit status, or CLD_KILLED / CLD_DUMPED and the signal */
    CgroupUsage usage;
} RunExit;

typedef struct Executor {
    const char *name;
    bool reads_payload; /* by itself, from the database; else the run has it when it is started */
    /* The key that a handler of this mode must have and this one has not, or NULL. */
    const char *(*missing)(const Handler *handler);
    /* Begins the attempt. It ends by run_exited(), later and exactly once. Errors: negative errno, nothing runs. */
    int (*start)(Run *run, sd_event *event);
    /* Ends it: ask (SIGTERM), or do not ask (SIGKILL). */
    void (*stop)(Run *run, bool ask);
    /* Lets it stand still, or go on, with all its descendants; run_frozen() when it does. NULL: it cannot. */
    int (*freeze)(Run *run, bool freeze);
    /* NULL, or: what runs the task has not been given it yet, so it may go back as if it had never begun. */
    bool (*waits)(const Run *run);
    /* Gives back what start() took. Nothing of the run may be left running. */
    void (*done)(Run *run);
    /* NULL, or: nobody runs by this handler any more; frees its state. */
    void (*retire)(Handler *handler);
} Executor;

extern const Executor executor_oneshot, executor_sql, executor_stream;

/* NULL: there is none of that name. */
const Executor *executor_find(const char *name);
