/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * One question to the database on behalf of one request: for what is neither stored nor read in groups.
 *
 *     Ask *ask = ask_new(&(Ask){ .api = api, .request = r, .use = LINK_BROWSE, .answer = on_page });
 *     if (ask)
 *         ask_sent(ask, task_log(ask_db(ask), id, ask_on_reply, ask));
 *
 * or, for what is harmless to ask twice, ask_start(): sent again while another session holds the row that it wants, for
 * half a second, so that nobody waits behind it meanwhile; and after a lost answer, for a minute, so that its answer
 * is the truth. Those that are too many for the session wait here for their turn, for ten seconds. Of those that want the
 * same row one is under way, and when it meets a lock, the others are told so at once.
 */
#include "api/context.h"

typedef struct Ask {
    Api *api;
    HttpRequest *request;
    LinkUse use;
    Id id;            /* of what is asked about */
    const void *what; /* the asker's own */
    size_t bytes;     /* that it keeps in memory, if many */
    /* Each must answer request. rows: at least one. failed: NULL means failure_answer(). */
    void (*answer)(const struct Ask *ask, const DbRows *rows);
    void (*failed)(const struct Ask *ask, const DbReply *reply);
    /* For ask_start(): sends it, with ask_on_reply(); and frees what. done may be NULL. keys: what it wants that another
     * session may hold, as texts; taken over, each may be NULL. */
    int (*send)(struct Ask *ask, Db *db);
    void (*done)(struct Ask *ask);
    char *keys[2];

    /* ask.c's own */
    struct Ask *next;
    uint64_t since; /* CLOCK_BOOTTIME: waits, or was first sent */
    bool under_way, again, blocked;
    bool lost; /* an answer was */
} Ask;

/* Of ask_new() alone: a copy, counted. NULL: the request is answered, 503: the session cannot be used, or too much is under way. */
Ask *ask_new(const Ask *ask);
Db *ask_db(const Ask *ask);

/* r: what the sending returned; an error answers the request, 503. Takes ask over. */
void ask_sent(Ask *ask, int r);

/* The callback to send with; userdata is the Ask. */
void ask_on_reply(Db *db, const DbReply *reply, void *userdata);

/* Answers it, whatever happens. Takes what and keys over. */
void ask_start(const Ask *ask);

/* Looks after all that wait or are to be sent again. Free it after the links, before the server. */
typedef struct Asks Asks;
int asks_new(Asks **ret, sd_event *event, Api *api);
Asks *asks_free(Asks *asks);
