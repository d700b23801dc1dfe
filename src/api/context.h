/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the handlers of all routes share. api.c makes it and ends it.
 */
#include "api/group.h"
#include "api/http.h"
#include "api/link.h"
#include "api/listen.h"
#include "api/token.h"
#include "base/config.h"
#include "store/rescue.h"

/* One session for each kind of work, so that nobody waits behind another kind. */
typedef enum LinkUse {
    LINK_WRITE,     /* groups of submissions … */
    LINK_WRITE_TOO, /* … one is executed while another is flushed */
    LINK_READ,      /* groups of reads; it also listens for changes */
    LINK_STEER,     /* short questions: steering, settings of queues; a rescue */
    LINK_KEYED,     /* submissions that may meet another session's key */
    LINK_BULK,      /* bulk submissions take their time */
    LINK_BROWSE,    /* lists, logs and figures, too */
    _LINK_USE_MAX,
} LinkUse;

/* Questions of one session, see ask.h. */
typedef struct Asking {
    size_t count, bytes; /* under way; kept in memory */
    struct Ask *under_way, *waiting;
} Asking;

typedef struct Api {
    int argc; /* how it was started; for reading the configuration again */
    char **argv;
    Config config;
    sd_event *event;
    Id instance; /* of this process */
    size_t connections_max;
    Tokens tokens;
    bool tokens_asked; /* on TCP: there is a file of tokens, even if it holds none */
    ListenSockets listen;
    HttpServer *server;
    Link *links[_LINK_USE_MAX];
    Asking asking[_LINK_USE_MAX];
    struct Asks *asks;
    Groups *submissions, *reads;
    Storing *storing;
    struct Watch *watch;
    struct Waits *waits;
    struct Events *events;
    struct Metrics *metrics;
    struct Poke *poke;
    Rescuer *rescuer;
    const char *said; /* the state that was logged last: a link's, or that all can be used */
    bool was_usable;  /* ever */
    bool open;        /* connections are accepted */
} Api;

/* The first one that cannot be used; NULL: all can. */
static inline const Link *api_missing_link(const Api *api) {
    for (size_t i = 0; i < _LINK_USE_MAX; i++)
        if (!link_db(api->links[i]))
            return api->links[i];
    return NULL;
}

/* Would a submission be stored, and may everything else be asked? */
static inline bool api_is_ready(const Api *api) {
    return !api_missing_link(api) && storing_works(api->storing);
}

/* May r do what needs this scope, by the tokens that are accepted now? Who may open a Unix socket was let in by its
 * file's mode. */
static inline bool api_admits(const Api *api, const HttpRequest *r, Scope scope) {
    if (scope == SCOPE_OPEN || !api->tokens_asked || http_is_local(r))
        return true;
    const Token *token = tokens_find(&api->tokens, http_header(r, "Authorization"));
    return token && (token->scopes & scope);
}

/* What one route does. capture: what stands in the path for {…}, percent-decoded; "" if there is none. */
typedef void (*RouteHandler)(Api *api, HttpRequest *r, const char *capture);
