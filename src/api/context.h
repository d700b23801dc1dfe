/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the handlers of all routes share. api.c makes it and ends it.
 */
#include "api/group.h"
#include "api/http.h"
#include "api/link.h"
#include "api/listen.h"
#include "base/config.h"
#include "store/rescue.h"

typedef struct Api {
    Config config;
    sd_event *event;
    ListenSockets listen;
    HttpServer *server;
    /* Three sessions, so that nobody waits behind another kind of work: steering may wait half a second for a row
     * that somebody holds, and a rescue may move thousands. */
    Link *write, *read, *steer;
    Groups *submissions, *reads;
    size_t steering; /* requests under way */
    Rescuer *rescuer;
    const char *said; /* the state that was logged last: a link's, or that all three can be used */
    bool was_usable;  /* ever */
    bool open;        /* connections are accepted */
} Api;

static inline bool api_is_usable(const Api *api) {
    return link_db(api->write) && link_db(api->read) && link_db(api->steer);
}

/* What one route does. capture: what stands in the path for {…}, percent-decoded; "" if there is none. */
typedef void (*RouteHandler)(Api *api, HttpRequest *r, const char *capture);
