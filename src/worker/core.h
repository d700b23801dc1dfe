/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The worker process: what its parts share. session.c brings a session up, turn.c claims and finishes through it,
 * worker.c starts, drains and ends.
 */
#include "base/config.h"
#include "store/db.h"
#include "store/rescue.h"
#include "store/worker.h"
#include "worker/fence.h"
#include "worker/run.h"

#define POLL_USEC    USEC_PER_SEC
#define FINISH_MAX   500 /* runs ended in one turn */
#define OBEY_MAX     100 /* orders whose outcome is told at once */
#define FINISH_BYTES (4 * 1024 * 1024)
#define REPORT_MAX   1000 /* runs that say something of themselves in one turn */

typedef struct Worker Worker;

typedef struct QueueScan {
    Worker *worker;
    const char *name;
    ClaimPosition position;
    bool whole; /* the claim under way asks for as many of every name as there are slots */
    bool dry;   /* a scan from the start came back empty */
} QueueScan;

struct Worker {
    Config config;
    sd_event *event;
    Db *db;
    Rescuer *rescuer;
    Handlers handlers;
    WorkerInfo info;
    char host[65];
    int exit_status;

    /* session.c */
    bool registered; /* info.id is a worker in the database */
    bool session;    /* attached and reconciled: turns may go */
    bool said_ready, said_waiting;
    char *database_why;           /* there is no session; NULL: nobody knows yet */
    uint64_t warned_at;           /* CLOCK_BOOTTIME of the last warning of the database that was logged */
    sd_event_source *retry_timer; /* of a session that could not be made */
    uint64_t lock_sent;           /* CLOCK_BOOTTIME of the sending of what takes the session's lock */

    /* runs.c */
    Run **
        runs; /* config.concurrency of them at most, those read ahead, and ended ones that wait to be written */
    size_t n_runs, n_busy; /* busy: not ended */
    bool ahead;            /* some may wait for a slot */
    sd_event_source *start_source;

    /* fetch.c */
    Db *fetch_db;    /* NULL: nothing was to be fetched of late */
    bool fetching;   /* an answer about this one's payload is awaited */
    bool fetch_open; /* on this session */
    char *fetch_why; /* it was lost last; NULL: it was not */
    Id fetched_id;
    int64_t fetched_no;

    /* room.c */
    unsigned *room; /* for each handler: how many more may be claimed; info.room */
    struct Places *places;
    bool narrow; /* a handler has less room than there are free slots */

    /* turn.c */
    QueueScan *queues;
    size_t n_queues, next_queue;
    sd_event_source *turn_source; /* deferred: runs once the loop has nothing else to do */
    sd_event_source *poll_timer;  /* once a second, whatever else happens */
    sd_event_source *again_timer; /* turns fail: the next try */
    Fence fence;
    unsigned failures; /* turns that failed in a row */
    bool beat_alone;   /* give a sign of life that needs no task */
    bool in_turn;      /* an answer is awaited that decides what to do next */
    bool claim_wanted; /* look for tasks */
    bool claim_alone;  /* the claim under way is not followed by a finish */
    bool expect;       /* a claim will probably find something: send the finish right behind it */
    bool listed;       /* in pgmill.sleepers */
    bool named;        /* its row lists the names of its handlers, or says that it drains */
    bool beat_wanted;
    bool report_wanted;   /* a run said something of itself */
    uint64_t reported;    /* CLOCK_BOOTTIME of the last report */
    bool orders_wanted;   /* somebody asked something of a running task */
    uint64_t orders_read; /* CLOCK_BOOTTIME */
    bool obey_wanted;     /* … and there is something to say of it */
    size_t finish_limit;  /* smaller while a refused batch is bisected */
    uint64_t turn_sent;   /* CLOCK_BOOTTIME of the sending of the finish under way, or of the beat */
    uint64_t full_scan;   /* CLOCK_BOOTTIME of the last scan from the start */
    uint64_t live_workers;

    /* sleep.c */
    sd_event_source *wake_timer;
    uint64_t wake_at; /* CLOCK_BOOTTIME of the next look, while asleep */

    /* takeover.c */
    char *identity; /* info.identity */
    bool took_over; /* or never will */
    unsigned takeover_tries;
    sd_event_source *takeover_timer;

    /* idle.c */
    uint64_t idle_since; /* CLOCK_BOOTTIME */
    bool idle_asked;

    /* worker.c */
    struct Control *control; /* NULL: no socket was passed in */
    bool draining, leaving;
    sd_event_source *drain_timer;
};

/* ---- session.c ---- */
int session_open(Worker *w);
void session_close(Worker *w);

/* ---- takeover.c ---- */
int takeover_init(Worker *w); /* after spawn_setup(), before any program */
void takeover_done(Worker *w);
void takeover_begin(Worker *w); /* with a session */

/* ---- runs.c ---- */
int runs_init(Worker *w);
void runs_done(Worker *w);
Run *runs_find(const Worker *w, Id id, int64_t claim_no);
/* Takes a row of worker_claimed_tasks() in. NULL: out of memory; the next turn finds it again. */
Run *runs_add(Worker *w, const DbRows *rows, size_t row);
void runs_remove(Worker *w, bool (*gone)(const Run *run)); /* and frees; NULL: all */
void runs_start_claimed(Worker *w);                        /* their claims are proven */
void runs_begin(Worker *w, Run *run);                      /* it has a slot, and its payload */
void runs_want(Worker *w);        /* soon: a slot may be free for one that was read ahead */
void runs_kill_all(Worker *w);    /* at once, back to the line unblamed */
void runs_return_late(Worker *w); /* those read ahead in vain */
void runs_return_idle(Worker *w); /* the same for those that stand still, or are about to, or wait to begin */

/* ---- fetch.c ---- */
void fetch_want(Worker *w); /* there may be a payload to fetch, or room for one */
void fetch_look(Worker *w); /* from the loop, now and then: tries again, or closes what is not needed */
void fetch_done(Worker *w);

/* ---- room.c ---- */
int room_init(Worker *w); /* after the handlers were read: -ENOMEM */
void room_done(Worker *w);
size_t room_busy(const Worker *w); /* slots that tasks hold */
/* Looks how many tasks of each handler may be claimed; ahead: also such as have no slot yet. 0: none of any, else how many
 * of all. */
size_t room_update(Worker *w, bool ahead);
/* Counts what each handler has, and answers how many slots are free; then one of those read ahead takes its handler's
 * next place, if there is one. */
size_t room_count(Worker *w);
bool room_take(Worker *w, const char *name);

/* ---- rest.c ---- */
#define REST_LIST_SIZE 200
bool rest_now(const Handler *h); /* nothing of it is to begin */
bool rest_any(const Worker *w); /* is there a handler whose program could not begin when it was tried last? */
void rest_learn(Worker *w, const Run *run); /* that has ended */
void rest_look(Worker *w);                  /* now and then: has one begun that has not ended? */
/* "; resting: a, b", for people, cut where there is no room; or "". */
const char *rest_list(const Worker *w, char buf[static REST_LIST_SIZE]);
int rest_serve(
    Worker *w); /* tells which names this worker takes, and which of them rest; a group of its own */

/* ---- turn.c ---- */
int turn_init(Worker *w);
void turn_done(Worker *w);
void turn_want(Worker *w, bool claim); /* soon; claim: look for tasks too */
void turn_notified(Worker *w);         /* of new tasks */
void turn_reloaded(Worker *w);         /* other handlers, other names */
void turn_session_up(Worker *w);
void turn_session_lost(Worker *w);
void turn_status(Worker *w);
/* Look at every queue from its start: before sleeping, in a new session, and now and then for rows that a position passed
 * because somebody held them. */
void turn_scan_from_start(Worker *w);

/* ---- sleep.c ---- */
int sleep_init(Worker *w);
void sleep_done(Worker *w);
int sleep_fall(Worker *w); /* every queue is dry: say so and look once more, or sleep if that is done */

/* ---- orders.c ---- */
void orders_want(Worker *w); /* there may be new ones */
bool orders_due(const Worker *w);
int orders_ask(Worker *w);    /* a group of its own */
int orders_obeyed(Worker *w); /* tells what came of them; a group of its own */

/* ---- report.c ---- */
void report_want(Worker *w); /* a run said something of itself */
bool report_due(const Worker *w);
int report_send(Worker *w); /* a group of its own */

/* ---- idle.c ---- */
void idle_look(Worker *w); /* now and then: may it end, since there is nothing to do? */

/* ---- worker.c ---- */
void worker_drain(Worker *w);                  /* take no more, and end when nothing is left */
void worker_fatal(Worker *w, int exit_status); /* leave the loop with this status; why was logged */
void worker_turn_over(Worker *w);              /* after each turn: a drain may be complete */
