/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Changes of tasks, as the database tells them. Nobody watches: no lease, and not one notification is made. One
 * lease serves all who watch in this process; it lasts 15 s and is renewed every 5.
 */
#include "api/link.h"
#include "base/id.h"
#include "base/json.h"

typedef struct Watch Watch;

typedef struct WatchEvent {
    JsonSpan text; /* the object as it came: {"id": …, "queue": …, "name": …, "status": …, "at": …} */
    Id id;
    const char *queue;
    bool ended; /* the task is over */
} WatchEvent;

/* userdata is the watch's. */
typedef struct WatchEvents {
    void (*live)(void *userdata); /* from now on nothing is missed */
    void (*gap)(void *userdata);  /* something may have been, until live() again */
    void (*event)(const WatchEvent *event, void *userdata);
} WatchEvents;

/* link: the session that listens; its events must be passed on with the two calls below. */
int watch_new(Watch **ret, sd_event *event, Link *link, Id api, const WatchEvents *events, void *userdata);
Watch *watch_free(Watch *w);
void watch_link_changed(Watch *w);
void watch_notified(Watch *w, const char *payload);

/* One more, or one fewer, wants to know. */
void watch_begin_one(Watch *w);
void watch_end_one(Watch *w);
bool watch_is_live(const Watch *w);
