/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * GET /api/events: changes of tasks as Server-Sent Events (HTML, section 9.2).
 *
 * All readers share one ring of the last events, so a slow reader costs nothing but its place. An event's id is
 * EPOCH-NUMBER; a new epoch begins whenever something may have been missed. A reader whose place is unknown, of
 * another epoch, or overwritten, gets the event `reset`: it must read again what it wants to know.
 */
#include "api/context.h"
#include "api/watch.h"

typedef struct Events Events;

int events_new(Events **ret, sd_event *event, Watch *watch);
Events *events_free(Events *all); /* after the requests */

void events_get(Api *api, HttpRequest *r, const char *capture);

/* What the watch says. */
void events_add(Events *all, const WatchEvent *event);
void events_live(Events *all);
void events_gap(Events *all);

/* The tokens have changed: ends the streams of readers whose token does not let them read any more. */
void events_admit(Events *all, const Api *api);
