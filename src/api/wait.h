/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Requests whose answer waits until a task is as they want it, or until their time is over. They are woken by the watch, and
 * look for themselves every other second, since a notification hastens but proves nothing.
 */
#include "api/group.h"
#include "api/watch.h"
#include "store/task.h"

typedef struct Waits Waits;

/* reads: where they look; its found() must ask wait_goes_on(). */
int waits_new(Waits **ret, sd_event *event, Groups *reads, Watch *watch);
Waits *waits_free(Waits *all); /* after the requests */

bool waits_full(const Waits *all);

/* Answers r through reads; 503 when too many wait. late: the status for a task that is not so by then, or
 * by the time its client has gone. */
void wait_for(Waits *all, HttpRequest *r, Id id, TaskGoal goal, uint64_t usec, unsigned late);

/* r's task was read. True: it waits on, and must not be answered now. Else *ret is the status to answer with; 409: it
 * will not come to that any more. asked: somebody wants it paused. */
bool wait_goes_on(HttpRequest *r, const char *status, bool asked, unsigned *ret);

void waits_event(Waits *all, const WatchEvent *event);
void waits_look(Waits *all);  /* something may have been missed */
void waits_hurry(Waits *all); /* the service ends: answer with what there is */
