/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * One question to the database on behalf of one request: for what is neither stored nor read in groups.
 *
 *     Ask *ask = ask_new(&(Ask){ .api = api, .request = r, .use = LINK_STEER, .answer = on_paused, .id = id });
 *     if (ask)
 *         ask_sent(ask, task_pause(ask_db(ask), id, ask_on_reply, ask));
 */
#include "api/context.h"

typedef struct Ask {
    Api *api;
    HttpRequest *request;
    LinkUse use;
    Id id;            /* of what is asked about */
    const void *what; /* the asker's own */
    /* Each must answer request. rows: at least one. failed: NULL means failure_answer(). */
    void (*answer)(const struct Ask *ask, const DbRows *rows);
    void (*failed)(const struct Ask *ask, const DbReply *reply);
} Ask;

/* A copy, counted. NULL: the request is answered, 503: the session cannot be used, or too much is under way. */
Ask *ask_new(const Ask *ask);
Db *ask_db(const Ask *ask);

/* r: what the sending returned; an error answers the request, 503. Takes ask over. */
void ask_sent(Ask *ask, int r);

/* The callback to send with; userdata is the Ask. */
void ask_on_reply(Db *db, const DbReply *reply, void *userdata);
