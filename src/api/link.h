/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A database connection that may be used: connected, and the schema on the other side is one that this executable
 * knows. Checks that after every connect, and again every second while it is not so.
 */
#include "store/db.h"

typedef struct Link Link;

typedef struct LinkEvents {
    /* It can be used now, or can no longer, or there is another reason why not. Called from the loop. */
    void (*changed)(Link *l, void *userdata);
    /* What this session listens for; may be NULL. */
    void (*notified)(const char *channel, const char *payload, void *userdata);
    /* A pooler on the way shares sessions out: what was listened for would never be told. */
    void (*pooled)(void *userdata);
} LinkEvents;

/* patience: as of db_patience(). Errors as db_new(). */
int link_new(Link **ret, sd_event *event, const char *conninfo, const char *name, uint64_t patience,
    const LinkEvents *events, void *userdata, char **ret_error);
/* It cannot be used any more; what is under way is told DB_LOST, and changed is not called. */
void link_close(Link *l);
Link *link_free(Link *l); /* closes it first */
void link_freep(Link **l);

Db *link_db(const Link *l); /* NULL while it cannot be used */

/* Why not. A few words, static, fit for any client: "waiting: run pgmill migrate"; NULL while the first try is not
 * over. And a line for people who may know where the database is. */
const char *link_state(const Link *l);
const char *link_why(const Link *l);
const char *link_log_id(const Link *l); /* the same for the log: of log_id.h, or NULL */
