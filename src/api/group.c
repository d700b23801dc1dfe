/* SPDX-License-Identifier: MIT */
/*
 * An item is in one place at a time: waiting → a group under way → answered, or back through `again`.
 */
#include "api/group.h"

#include "api/failure.h"
#include "api/problem.h"
#include "base/time.h"
#include "base/timer.h"

#define ITEMS_MAX          4096                /* requests in all */
#define BYTES_MAX          (64U * 1024 * 1024) /* of their payloads */
#define GROUP_BYTES_MAX    (1024U * 1024)      /* of a group's, but for its first item */
#define UNDER_WAY          2                   /* groups: one is executed, the next is on its way */
#define UNDER_WAY_MAX      4                   /* the same while full ones wait */
#define TICK_USEC          (100 * USEC_PER_MSEC)
#define GIVE_UP_LOST_USEC  (60 * USEC_PER_SEC)
#define GIVE_UP_RETRY_USEC (5 * USEC_PER_SEC)

typedef struct Group {
    Groups *owner;
    struct Group *next; /* in again */
    GroupItem *items[GROUP_MAX];
    size_t count;
    uint64_t first_sent, due; /* CLOCK_BOOTTIME; due: not to be sent again before */
    unsigned answers;         /* statements whose answer is to come */
    DbOutcome outcome;        /* the first one that was not DB_OK */
    bool stored;              /* committed for certain */
    bool lost;                /* an answer was lost once: nobody knows */
} Group;

struct Groups {
    Link *link;
    const GroupOps *ops;
    GroupItem *first, *last; /* waiting */
    size_t waiting, items, bytes;
    unsigned under_way;
    Group *again;
    sd_event_source *tick; /* runs while there is something in again */
};

static void group_send(Group *g);

/* ---- items ---- */

static void item_free(Groups *all, GroupItem *item) {
    all->items--;
    all->bytes -= item->bytes;
    task_new_free(item->task);
    free(item);
}

static GroupItem *waiting_pop(Groups *all) {
    GroupItem *item = all->first;

    all->first = item->next;
    if (!all->first)
        all->last = NULL;
    all->waiting--;
    return item;
}

void groups_add(Groups *all, HttpRequest *r, Id id, TaskNew *task) {
    _cleanup_(task_new_freep) TaskNew *owned = task;
    size_t bytes = task ? strlen(task->payload) : 0;

    if (!link_db(all->link))
        return failure_answer_unusable(r, all->link);
    GroupItem *item =
        all->items < ITEMS_MAX && all->bytes + bytes <= BYTES_MAX ? malloc(sizeof(GroupItem)) : NULL;
    if (!item)
        return problem_answer(r, PROBLEM_BUSY, "%zu requests wait for the database already", all->items);
    *item = (GroupItem){ .request = r, .id = id, .task = TAKE_PTR(owned), .bytes = bytes };
    if (all->last)
        all->last->next = item;
    else
        all->first = item;
    all->last = item;
    all->waiting++;
    all->items++;
    all->bytes += bytes;
}

/* ---- groups ---- */

/* Nothing was sent of it; NULL if there is no memory, then the first one in line has got its answer. */
static Group *group_take(Groups *all) {
    Group *g = malloc(sizeof(Group));
    size_t bytes = 0;

    if (!g) {
        GroupItem *item = waiting_pop(all);
        problem_answer(item->request, PROBLEM_BUSY, "out of memory");
        item_free(all, item);
        return NULL;
    }
    *g = (Group){ .owner = all, .first_sent = time_now_boottime() };
    do {
        bytes += all->first->bytes;
        g->items[g->count++] = waiting_pop(all);
    } while (all->first && g->count < GROUP_MAX && bytes + all->first->bytes <= GROUP_BYTES_MAX);
    return g;
}

static void group_again(Group *g, uint64_t wait_usec) {
    Groups *all = g->owner;

    if (!all->again)
        (void) timer_start(all->tick, TICK_USEC);
    g->due = time_now_boottime() + wait_usec;
    g->next = all->again;
    all->again = g;
}

/* Answers all of a group in the same way, and frees it. */
static void group_give_up(Group *g) {
    const GroupOps *ops = g->owner->ops;

    for (size_t i = 0; i < g->count; i++) {
        if (g->stored)
            ops->missing(g->items[i]->request, g->items[i]->id);
        else
            ops->gave_up(g->items[i]->request, g->lost);
        item_free(g->owner, g->items[i]);
    }
    free(g);
}

static void group_refuse(Group *g, const DbReply *reply) {
    for (size_t i = 0; i < g->count; i++) {
        g->owner->ops->refused(g->items[i]->request, reply);
        item_free(g->owner, g->items[i]);
    }
    g->count = 0;
}

/* The culprit is in one of the halves. */
static void group_halve(Group *g) {
    Group *half = malloc(sizeof(Group));

    if (!half)
        return group_again(g, TICK_USEC);
    *half = (Group){ .owner = g->owner, .first_sent = g->first_sent, .lost = g->lost };
    half->count = g->count / 2;
    g->count -= half->count;
    memcpy(half->items, g->items + g->count, half->count * sizeof(GroupItem *));
    group_send(g);
    group_send(half);
}

/* Rows mostly come in the order that was asked for, so the search begins behind the last one found. */
static size_t find_row(const DbRows *rows, size_t from, Id id) {
    const char *text = ID_TEXT(id);
    size_t n = db_rows(rows);

    for (size_t i = 0; i < n; i++) {
        size_t row = (from + i) % n;
        if (streq(db_value(rows, row, 0), text))
            return row;
    }
    return SIZE_MAX;
}

static void group_deliver(Group *g, const DbRows *rows) {
    const GroupOps *ops = g->owner->ops;
    size_t row = SIZE_MAX;

    for (size_t i = 0; i < g->count; i++) {
        row = find_row(rows, row + 1, g->items[i]->id);
        if (row != SIZE_MAX)
            ops->found(g->items[i]->request, g->items[i]->id, rows, row);
        else
            ops->missing(g->items[i]->request, g->items[i]->id);
        item_free(g->owner, g->items[i]);
    }
    free(g);
}

/* The last answer is there. rows: NULL unless all went well. */
static void group_answered(Group *g, const DbRows *rows) {
    g->owner->under_way--;
    groups_flush(g->owner); /* the database works on while the answers are written */
    if (rows)
        return group_deliver(g, rows);
    if (g->count == 0)
        return free(g);
    switch (g->outcome) {
    case DB_INVALID:
    case DB_CONFLICT:
        return group_halve(g);
    case DB_LOST:
        g->lost = true;
        return group_again(g, 0);
    default:
        return group_again(g, TICK_USEC);
    }
}

/* Is there no point in trying the same again? */
static bool is_final(const Group *g, DbOutcome outcome) {
    switch (outcome) {
    case DB_OK:
    case DB_SKIPPED:
    case DB_LOST:
    case DB_RETRY:
    case DB_LOCKED:
        return false;
    case DB_INVALID:
    case DB_CONFLICT:
        return g->count == 1;
    default:
        return true;
    }
}

static void on_stored(_unused_ Db *db, const DbReply *reply, void *userdata) {
    Group *g = userdata;

    g->answers--;
    g->outcome = reply->outcome;
    if (reply->outcome == DB_OK)
        g->stored = true;
    else if (is_final(g, reply->outcome))
        group_refuse(g, reply);
    if (g->answers == 0)
        group_answered(g, NULL);
}

static void on_read(_unused_ Db *db, const DbReply *reply, void *userdata) {
    Group *g = userdata;
    bool asked = g->stored || !g->owner->ops->store; /* else it was refused, and these rows tell nothing */

    g->answers--;
    if (asked)
        g->outcome = reply->outcome;
    if (asked && !g->stored && is_final(g, reply->outcome))
        group_refuse(g, reply);
    group_answered(g, asked ? reply->rows : NULL);
}

static int group_store(Group *g, Db *db) {
    TaskNew *tasks[GROUP_MAX];

    for (size_t i = 0; i < g->count; i++)
        tasks[i] = g->items[i]->task;
    int r = task_submit_group(db, tasks, g->count, on_stored, g);
    if (r >= 0)
        g->answers++;
    return r;
}

static int group_read(Group *g, Db *db) {
    Id ids[GROUP_MAX];

    for (size_t i = 0; i < g->count; i++)
        ids[i] = g->items[i]->id;
    int r = task_read_group(db, ids, g->count, on_read, g);
    if (r >= 0)
        g->answers++;
    return r;
}

/* Stores and reads in one write: the second statement costs less than another round trip, and makes the answer
 * of a submission exactly what a later read would say. */
static void group_send(Group *g) {
    Db *db = link_db(g->owner->link);
    int r = 0;

    if (!db)
        return group_again(g, 0);
    g->outcome = DB_OK;
    if (g->owner->ops->store && !g->stored)
        r = group_store(g, db);
    if (r >= 0)
        (void) group_read(g, db);
    if (g->answers == 0)
        return group_again(g, TICK_USEC);
    g->owner->under_way++;
}

/* ---- all of them ---- */

static bool may_send(const Groups *all) {
    if (all->waiting == 0)
        return false;
    return all->under_way < UNDER_WAY || (all->under_way < UNDER_WAY_MAX && all->waiting >= GROUP_MAX);
}

void groups_flush(Groups *all) {
    if (!link_db(all->link))
        return;
    while (may_send(all)) {
        Group *g = group_take(all);
        if (g)
            group_send(g);
    }
}

/* Sends again what is due, gives up what is too old. What must wait on goes back into the list. */
static void again_visit(Groups *all) {
    uint64_t now = time_now_boottime();
    Group *list = TAKE_PTR(all->again);

    while (list) {
        Group *g = list;
        list = g->next;
        if (now - g->first_sent >= (g->lost ? GIVE_UP_LOST_USEC : GIVE_UP_RETRY_USEC))
            group_give_up(g);
        else if (link_db(all->link) && g->due <= now)
            group_send(g);
        else
            group_again(g, g->due > now ? g->due - now : 0);
    }
}

static int on_tick(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
    again_visit(userdata);
    return 0;
}

void groups_link_changed(Groups *all) {
    if (link_db(all->link)) {
        again_visit(all);
        groups_flush(all);
        return;
    }
    while (all->first) { /* like those that arrive from now on */
        GroupItem *item = waiting_pop(all);
        failure_answer_unusable(item->request, all->link);
        item_free(all, item);
    }
}

int groups_new(Groups **ret, sd_event *event, Link *link, const GroupOps *ops) {
    _cleanup_(groups_freep) Groups *all = calloc(1, sizeof(Groups));

    if (!all)
        return -ENOMEM;
    all->link = link;
    all->ops = ops;
    int r = timer_new(&all->tick, event, USEC_PER_MSEC, on_tick, all);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(all);
    return 0;
}

Groups *groups_free(Groups *all) {
    if (!all)
        return NULL;
    while (all->again) {
        Group *g = all->again;
        all->again = g->next;
        group_give_up(g);
    }
    while (all->first) {
        GroupItem *item = waiting_pop(all);
        all->ops->gave_up(item->request, false);
        item_free(all, item);
    }
    sd_event_source_disable_unref(all->tick);
    free(all);
    return NULL;
}

void groups_freep(Groups **all) {
    groups_free(*all);
}
