/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Requests for the database in groups: what arrives while a group is under way is the next group, so one
 * statement, one round trip and one commit serve many requests. Knows requests and tasks, nothing of paths or JSON.
 *
 * A group is at most GROUP_MAX rows. Two of like size are under way at most times, more when full ones wait; on several
 * sessions, so that one is executed while another is flushed.
 * A group that is refused is halved until the culprit stands alone. One whose answer was lost, or whose replication was
 * not waited for, is sent again once the connection is back (storing is harmless to repeat: the ids are ours), and given
 * up a minute after its first sending; one that the database could not take just now is tried again for five seconds.
 */
#include "api/http.h"
#include "api/link.h"
#include "api/storing.h"
#include "store/task.h"

#define GROUP_MAX       64
#define GROUP_LANES_MAX 2

typedef struct GroupItem {
    struct GroupItem *next;
    HttpRequest *request;
    Id id;
    TaskNew *task; /* to store; NULL: only read */
    size_t bytes;
} GroupItem;

/* How an item's request is answered. Each must answer it; the item is freed after. */
typedef struct GroupOps {
    bool store; /* items are stored, then read; else only read */
    void (*found)(const GroupItem *item, const DbRows *rows, size_t row); /* TASK columns */
    void (*missing)(HttpRequest *r, Id id);                /* no such row; or stored, and deleted since */
    void (*refused)(HttpRequest *r, const DbReply *reply); /* this very item, and not stored */
    void (*gave_up)(HttpRequest *r, bool lost);            /* lost: it may be stored all the same */
} GroupOps;

typedef struct Groups Groups;

/* storing: is told what became of each; NULL: of reads nobody is. */
int groups_new(Groups **ret, sd_event *event, Link *const links[], size_t n_links, const GroupOps *ops,
    Storing *storing);
Groups *groups_free(Groups *g); /* the links must be free before; what is left is answered by gave_up() */
void groups_freep(Groups **g);

/* Adds a request to the next group; takes task over. Answers it itself, 503, when the link cannot be used or
 * too many wait. Nothing is sent before groups_flush(). */
void groups_add(Groups *g, HttpRequest *r, Id id, TaskNew *task);

/* Sends what may be sent now. */
void groups_flush(Groups *g);

/* One of the links can be used again, or cannot any more. */
void groups_link_changed(Groups *g);
