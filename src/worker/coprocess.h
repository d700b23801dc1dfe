/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * One co-process of Mode=stream, from its start to its end: its pipes, and the tasks that it was given. It takes tasks from
 * a list of its owner's as there is room, until it is told to end: then it gets the end of its input, answers what it has,
 * and ends, without an owner if need be. What it was given and not answered is judged at its end: by how that came about.
 */
#include <sys/queue.h>
#include <systemd/sd-event.h>

#include "worker/run.h"

typedef struct Coprocess Coprocess;
typedef struct CoTask CoTask;
typedef TAILQ_HEAD(CoTasks, CoTask) CoTasks;

/* A run of a stream; its `execution`. */
struct CoTask {
    TAILQ_ENTRY(CoTask) entry;
    CoTasks *list; /* that it is in */
    Run *run;
    Coprocess *co;        /* that was given it; NULL: it waits */
    bool cancelled, told; /* it is to be asked to end, and that is said */
    bool guilty;          /* did not end when it should, so the co-process has to */
};

Run *cotask_free(CoTask *task); /* returns its run */

typedef struct CoprocessEnd {
    bool not_started; /* those that wait fail as well: `verdict` */
    bool useful;      /* it ended by itself, with status 0, and has answered before */
    bool answered;    /* it has answered before */
    const RunVerdict *verdict;
} CoprocessEnd;

/* None is called once it was told to end. */
typedef struct CoprocessEvents {
    void (*spent)(void *userdata); /* it has come to the bounds of RecycleAfter=, and was told to end */
    void (*ended)(const CoprocessEnd *end, void *userdata); /* it is freed behind this */
} CoprocessEvents;

/* waiting: where it takes tasks from. Errors: those of spawn_start(). */
int coprocess_start(Coprocess **ret, sd_event *event, const Handler *h, CoTasks *waiting,
    const CoprocessEvents *events, void *userdata);
/* There is something for it in its list. */
void coprocess_pump(Coprocess *co);
/* Tells it to end; it is its owner's no more. What does not end within KillGrace= of its last answer is killed. */
void coprocess_end(Coprocess *co);
/* One of its tasks is asked to end, or ended with all of it; the others are not blamed. */
void coprocess_cancel(CoTask *task);
void coprocess_kill(CoTask *task);

/* ---- those that were told to end, and have not ---- */

bool coprocess_any_ending(void);
/* Called whenever one of them has ended. Once, before any. */
void coprocess_on_gone(void (*gone)(void *userdata), void *userdata);
void coprocess_kill_ending(void); /* does not wait for them */
void coprocess_done(void);        /* kills them, and waits */
