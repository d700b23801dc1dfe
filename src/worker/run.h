/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * One attempt at a task in this process: what the claim said, then what belongs to the process alone.
 */
#include "base/id.h"
#include "base/util.h"
#include "store/worker.h"
#include "worker/clock.h"
#include "worker/executor.h"
#include "worker/handler.h"
#include "worker/lines.h"
#include "worker/notify.h"
#include "worker/payload.h"

#define RUN_DESCRIPTORS 16 /* of one attempt at its start: pipes and the program's ends, what spawn.h needs */

typedef enum RunState {
    RUN_CLAIMED,  /* in the database, but the claim is not proven: may not start */
    RUN_AHEAD,    /* proven, and waits for a slot: ReadAhead= */
    RUN_FETCHING, /* has a slot, and waits for its payload */
    RUN_RUNNING,
    RUN_ENDED, /* what became of it waits to be written */
} RunState;

struct Run {
    /* the row */
    Id id;
    int64_t claim_no;
    char id_text[ID_TEXT_SIZE];
    char *queue, *name;
    unsigned attempt, max_attempts, deferrals;
    uint64_t timeout_usec; /* UINT64_MAX: none */

    /* this process only */
    RunState state;
    Payload payload;
    size_t payload_size; /* of one that is fetched, once that is known */
    Handler *handler;    /* it began with; outlives a reload */
    const Executor *executor;
    void *execution;  /* the executor's */
    sd_event *event;  /* the loop, not owned */
    Clock clock;      /* of its timeout, then of its grace */
    bool stopping;    /* asked to end, or killed */
    bool pausing;     /* somebody wants it to stand still … */
    bool frozen;      /* … and it does */
    bool frozen_told; /* what the database says of that */
    bool unable;      /* it was asked to stand still, and cannot */
    bool unbegun;     /* for want of something on this host; goes back unblamed */
    bool interrupted; /* by its worker: goes back unblamed, whatever the exit */
    bool timed_out;
    bool lost;      /* its watchdog waited in vain */
    bool cancelled; /* somebody asked for its end: CANCELLED, whatever the exit */
    bool sent;      /* its end is under way to the database */
    bool locked;    /* somebody holds its row: to be sent again at the next poll, not before */
    bool refused;   /* … or the fence does: it is no longer this worker's */
    Buf output;     /* standard output, at most RESULT_MAX */
    bool output_cut;
    CgroupUsage usage;    /* when ended */
    Lines lines;          /* standard error */
    Notify *notify;       /* NULL: it cannot say anything of itself */
    char *result, *error; /* when ended: JSON texts or NULL */
    char *note;           /* … what could not be kept of the result, or NULL */
    RunOutcome outcome;
    double delay;
    char *why;                   /* the error in plain words, or NULL */
    uint64_t ahead_since;        /* CLOCK_MONOTONIC, of RUN_AHEAD */
    bool told_ahead;             /* the database was told that it waits */
    uint64_t started, frozen_at; /* the same; 0: it never began */
    uint64_t stood, took;        /* µs that it stood still, and that it ran until it ended */
    bool told;                   /* its beginning is in the log */

    void (*on_end)(Run *run, void *userdata);
    void (*on_said)(Run *run, void *userdata);   /* progress or status, of one that runs: notify_said() */
    void (*on_frozen)(Run *run, void *userdata); /* or thawed */
    void *userdata;
};

/* How an attempt went, where no program's exit tells. */
typedef struct RunVerdict {
    RunOutcome outcome;   /* what a request to end it makes of that is run_judged()'s */
    bool timed_out;       /* found by somebody else than the worker's clock */
    const char *error;    /* of a failure: one line */
    const char *sqlstate; /* or NULL */
    const char *result;   /* of RUN_COMPLETED: JSON, result_len bytes */
    size_t result_len;
    const Lines *lines; /* standard error of what ran it: its tail goes with the error; or NULL */
    bool unbegun;       /* it could not begin here, for the reason in error: nothing else counts */
    bool tasks_refused; /* … and that wanted more processes than TasksMax= */
    bool delayed;       /* the next attempt comes after so many seconds, not by the handler's policy */
    double delay;
} RunVerdict;

/* From a row of worker_claimed_tasks(). -ENOMEM. */
int run_new(Run **ret, const DbRows *rows, size_t row);
Run *run_free(Run *run); /* returns NULL; a program that still runs is killed */
void run_freep(Run **run);

/* It has not begun: it may go back as if nothing had been. */
static inline bool run_is_idle(const Run *run) {
    return run->state == RUN_AHEAD || run->state == RUN_FETCHING;
}

/* Starts the attempt, or ends it at once when that fails: on_end comes either way, later, from the loop or now. */
void run_start(Run *run, sd_event *event, Handler *handler);

/* Ends it: ask first and kill after its grace, or kill at once. */
void run_stop(Run *run, bool ask);

/* Kills it at once, if it runs; it goes back to the line unblamed. */
void run_interrupt(Run *run);

/* Somebody asked for its end. Once is enough. */
void run_cancel(Run *run);

/* Stands still with all its descendants, its clocks too, or goes on; on_frozen when it does. Nothing for one that is
 * being ended. */
void run_pause(Run *run, bool pause);

/* Goes back to the line unblamed, without having begun. */
void run_return(Run *run);

/* For the log. Points into the run. */
static inline LogTask run_log_task(const Run *run) {
    return (LogTask){ run->id_text, run->name, run->queue, run->attempt };
}

/* For executors that start a program for this attempt alone, before they do: run->notify, NULL if that fails. */
void run_open_notify(Run *run);
/* For executors: freeze() has taken effect. */
void run_frozen(Run *run, bool frozen);
/* For executors: the attempt is over. */
void run_exited(Run *run, const RunExit *exit);
void run_judged(Run *run, const RunVerdict *verdict);
/* The database did not take what is to be written of it. A completed run stays that, without the result; any other has
 * failed for good. */
void run_refused(Run *run);
/* For executors: bytes of standard output and standard error. */
void run_output(Run *run, const char *data, size_t n);
void run_error_output(Run *run, const char *data, size_t n);
