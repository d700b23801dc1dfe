/* SPDX-License-Identifier: MIT */
#include "api/wait.h"

#include "api/problem.h"
#include "base/time.h"
#include "base/timer.h"

#define WAITS_MAX 1000
#define TICK_USEC (100 * USEC_PER_MSEC)
#define LOOK_USEC (2 * USEC_PER_SEC)

typedef struct Wait {
    Waits *all;
    struct Wait *next, *previous;
    HttpRequest *request;
    Id id;
    uint64_t until, looked; /* CLOCK_BOOTTIME */
    TaskGoal goal;
    unsigned late;
    bool looking; /* the read is under way */
    bool again;   /* and what it will say may be old */
} Wait;

struct Waits {
    Groups *reads;
    Watch *watch;
    Wait *first;
    size_t count;
    sd_event_source *tick;
};

static void released(void *what) {
    Wait *w = what;
    Waits *all = w->all;

    if (w->previous)
        w->previous->next = w->next;
    else
        all->first = w->next;
    if (w->next)
        w->next->previous = w->previous;
    all->count--;
    watch_end_one(all->watch);
    free(w);
}

/* May answer the request, and with that free w. Sends at once: it may be called from anywhere in the loop. */
static void look(Wait *w) {
    w->again = w->looking;
    if (w->looking)
        return;
    w->looking = true;
    w->looked = time_now_boottime();
    if (http_peer_is_done(w->request))
        w->until = 0; /* its place is for others; one that still listens learns what there is */
    Waits *all = w->all;
    groups_add(all->reads, w->request, w->id, NULL);
    groups_flush(all->reads);
}

static int on_tick(sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
    Waits *all = userdata;
    uint64_t now = time_now_boottime();

    for (Wait *w = all->first, *next; w; w = next) {
        next = w->next;
        if (!w->looking && (now >= w->until || now - w->looked >= LOOK_USEC))
            look(w);
    }
    return all->first ? timer_start(s, TICK_USEC) : 0;
}

bool waits_full(const Waits *all) {
    return all->count >= WAITS_MAX;
}

void wait_for(Waits *all, HttpRequest *r, Id id, TaskGoal goal, uint64_t usec, unsigned late) {
    Wait *w = !waits_full(all) ? malloc(sizeof(Wait)) : NULL;

    if (!w)
        return problem_answer(r, PROBLEM_BUSY, "%zu requests wait for a task already", all->count);
    *w = (Wait){ .all = all,
        .next = all->first,
        .request = r,
        .id = id,
        .until = time_now_boottime() + usec,
        .goal = goal,
        .late = late };
    if (w->next)
        w->next->previous = w;
    all->first = w;
    all->count++;
    http_hold(r, w, released);
    watch_begin_one(all->watch);
    if (all->count == 1)
        (void) timer_start(all->tick, TICK_USEC);
    look(w);
}

bool wait_goes_on(HttpRequest *r, const char *status, bool asked, unsigned *ret) {
    Wait *w = http_held(r);
    TaskReach reach = w ? task_reach(w->goal, status, asked) : TASK_REACHED;

    *ret = reach == TASK_MISSED ? 409 : 200;
    if (reach != TASK_NOT_YET)
        return false;
    w->looking = false;
    *ret = w->late;
    if (time_now_boottime() >= w->until)
        return false;
    if (w->again)
        look(w);
    return true;
}

void waits_event(Waits *all, const WatchEvent *event) {
    for (Wait *w = all->first, *next; w; w = next) {
        next = w->next;
        if ((event->ended || w->goal != TASK_GOAL_END) && id_equal(w->id, event->id))
            look(w);
    }
}

void waits_look(Waits *all) {
    for (Wait *w = all->first, *next; w; w = next) {
        next = w->next;
        look(w);
    }
}

void waits_hurry(Waits *all) {
    for (Wait *w = all->first; w; w = w->next)
        w->until = 0;
    waits_look(all);
}

int waits_new(Waits **ret, sd_event *event, Groups *reads, Watch *watch) {
    Waits *all = calloc(1, sizeof(Waits));

    if (!all)
        return -ENOMEM;
    *all = (Waits){ .reads = reads, .watch = watch };
    int r = timer_new(&all->tick, event, USEC_PER_MSEC, on_tick, all);
    if (r < 0) {
        waits_free(all);
        return r;
    }
    *ret = all;
    return 0;
}

Waits *waits_free(Waits *all) {
    if (!all)
        return NULL;
    sd_event_source_disable_unref(all->tick);
    free(all);
    return NULL;
}
