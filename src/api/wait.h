/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Requests whose answer waits until a task has ended, or until their time is over. They are woken by the watch, and
 * look for themselves every other second, since a notification hastens but proves nothing.
 */
#include "api/group.h"
#include "api/watch.h"

typedef struct Waits Waits;

/* reads: where they look; its found() must ask wait_goes_on(). */
int waits_new(Waits **ret, sd_event *event, Groups *reads, Watch *watch);
Waits *waits_free(Waits *all); /* after the requests */

bool waits_full(const Waits *all);

/* Answers r through reads; 503 when too many wait. late: the status for a task that has not ended by then, or
 * by the time its client has gone. */
void wait_for_end(Waits *all, HttpRequest *r, Id id, uint64_t usec, unsigned late);

/* r's task was read. True: it waits on, and must not be answered now. Else *ret is the status to answer with. */
bool wait_goes_on(HttpRequest *r, const char *status, unsigned *ret);

void waits_event(Waits *all, const WatchEvent *event);
void waits_look(Waits *all);  /* something may have been missed */
void waits_hurry(Waits *all); /* the service ends: answer with what there is */
