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
#define UNDER_WAY          2 /* groups: one is executed, the next is on its way or flushed */
#define UNDER_WAY_MAX      4 /* the same while full ones wait */
#define TICK_USEC          (100 * USEC_PER_MSEC)
#define GIVE_UP_LOST_USEC  (60 * USEC_PER_SEC)
#define GIVE_UP_RETRY_USEC (5 * USEC_PER_SEC)

/* A session that groups are sent on. */
typedef struct Lane {
    Link *link;
    unsigned under_way; /* groups */
} Lane;

typedef struct Group {
    Groups *owner;
    Lane *lane;         /* while it is under way */
    struct Group *next; /* in again */
    GroupItem *items[GROUP_MAX];
    size_t count;
    uint64_t first_sent, due; /* CLOCK_BOOTTIME; due: not to be sent again before */
    bool lost;                /* an answer was lost once: nobody knows */
} Group;

struct Groups {
    Lane lanes[GROUP_LANES_MAX];
    size_t n_lanes;
    const GroupOps *ops;
    Storing *storing;
    GroupItem *first, *last; /* waiting */
    size_t waiting, items, bytes;
    unsigned under_way; /* in all lanes */
    Group *again;
    sd_event_source *tick; /* runs while there is something in again */
};

static void group_send(Group *g);

/* The least busy session that can be used; NULL: none can. */
static Lane *lane_find(Groups *all) {
    Lane *best = NULL;

    for (Lane *l = all->lanes; l < all->lanes + all->n_lanes; l++)
        if (link_db(l->link) && (!best || l->under_way < best->under_way))
            best = l;
    return best;
}

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

    if (!lane_find(all))
        return failure_answer_unusable(r, all->lanes[0].link);
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
    free(g);
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
            ops->found(g->items[i], rows, row);
        else
            ops->missing(g->items[i]->request, g->items[i]->id);
        item_free(g->owner, g->items[i]);
    }
    free(g);
}

static size_t group_bytes(const Group *g) {
    size_t bytes = 0;

    for (size_t i = 0; i < g->count; i++)
        bytes += g->items[i]->bytes;
    return bytes;
}

static void on_answer(_unused_ Db *db, const DbReply *reply, void *userdata) {
    Group *g = userdata;
    Groups *all = g->owner;

    g->lane->under_way--;
    all->under_way--;
    groups_flush(all); /* the database works on while the answers are written */
    if (all->storing)
        storing_told(all->storing, reply, group_bytes(g));
    switch (db_outcome(reply)) {
    case DB_OK:
        return group_deliver(g, reply->rows);
    case DB_LOST:
        g->lost = true;
        return group_again(g, reply->outcome == DB_LOST ? 0 : TICK_USEC);
    case DB_SKIPPED:
    case DB_RETRY:
    case DB_LOCKED:
        return group_again(g, TICK_USEC);
    case DB_INVALID:
    case DB_CONFLICT:
        return g->count > 1 ? group_halve(g) : group_refuse(g, reply);
    default:
        return group_refuse(g, reply);
    }
}

static int group_store(Group *g, Db *db) {
    TaskNew *tasks[GROUP_MAX];

    for (size_t i = 0; i < g->count; i++)
        tasks[i] = g->items[i]->task;
    return task_submit_group(db, tasks, g->count, on_answer, g);
}

static int group_read(Group *g, Db *db) {
    Id ids[GROUP_MAX];

    for (size_t i = 0; i < g->count; i++)
        ids[i] = g->items[i]->id;
    return task_read_group(db, ids, g->count, on_answer, g);
}

static void group_send(Group *g) {
    Lane *lane = lane_find(g->owner);

    if (!lane)
        return group_again(g, 0);
    Db *db = link_db(lane->link);
    int r = g->owner->ops->store ? group_store(g, db) : group_read(g, db);
    if (r < 0)
        return group_again(g, TICK_USEC);
    g->lane = lane;
    lane->under_way++;
    g->owner->under_way++;
}

/* ---- all of them ---- */

/* Halves: the second group leaves when as many wait as the first one has. Sent at once it would be a few rows, and
 * what a group costs whatever its size (a round trip, a plan's start, a commit) would be most of what a row costs. */
static bool may_send(const Groups *all) {
    if (all->waiting == 0 || all->under_way == 0)
        return all->waiting > 0;
    if (all->waiting >= GROUP_MAX)
        return all->under_way < UNDER_WAY_MAX;
    return all->under_way < UNDER_WAY && all->waiting >= all->items - all->waiting;
}

void groups_flush(Groups *all) {
    if (!lane_find(all))
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
        else if (lane_find(all) && g->due <= now)
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
    if (lane_find(all)) {
        again_visit(all);
        groups_flush(all);
        return;
    }
    while (all->first) { /* like those that arrive from now on */
        GroupItem *item = waiting_pop(all);
        failure_answer_unusable(item->request, all->lanes[0].link);
        item_free(all, item);
    }
}

int groups_new(Groups **ret, sd_event *event, Link *const links[], size_t n_links, const GroupOps *ops,
    Storing *storing) {
    _cleanup_(groups_freep) Groups *all = calloc(1, sizeof(Groups));

    if (!all)
        return -ENOMEM;
    for (; all->n_lanes < MIN(n_links, (size_t) GROUP_LANES_MAX); all->n_lanes++)
        all->lanes[all->n_lanes].link = links[all->n_lanes];
    all->ops = ops;
    all->storing = storing;
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
