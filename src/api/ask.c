/* SPDX-License-Identifier: MIT */
/*
 * What ask_start() was given is in one of its session's two lists: waiting → under way → answered.
 */
#include "api/ask.h"

#include "api/failure.h"
#include "api/problem.h"
#include "base/time.h"
#include "base/timer.h"

/* Of one session: those under way, one behind the other, and what they and those that wait keep in memory. A bulk is
 * copied into the session's own buffer, so that one of them must do. */
#define ASKING_MAX       64
#define ASKING_BULKS_MAX 1
#define ASKING_BYTES_MAX (64U * 1024 * 1024)

#define TICK_USEC           (50 * USEC_PER_MSEC)
#define WAIT_USEC           (10 * USEC_PER_SEC)
#define GIVE_UP_LOCKED_USEC (500 * USEC_PER_MSEC)
#define GIVE_UP_LOST_USEC   (60 * USEC_PER_SEC)

struct Asks {
    Api *api;
    sd_event_source *tick;
    bool ticking;
};

static const DbReply lost = { .outcome = DB_LOST, .sqlstate = "", .message = "", .constraint = "" };

static void begin_next(Api *api, LinkUse use);

static Asking *asking_of(const Ask *ask) {
    return &ask->api->asking[ask->use];
}

/* ---- one ---- */

/* A copy. NULL: it is answered. */
static Ask *admit(const Ask *ask) {
    const Link *link = ask->api->links[ask->use];
    Asking *asking = asking_of(ask);

    if (!link_db(link)) {
        failure_answer_unusable(ask->request, link);
        return NULL;
    }
    bool fits = asking->bytes == 0 || asking->bytes + ask->bytes <= (size_t) ASKING_BYTES_MAX;
    Ask *copy = fits ? malloc(sizeof(Ask)) : NULL;
    if (!copy) {
        problem_answer(
            ask->request, PROBLEM_BUSY, "Requests of %zu bytes wait for the database already", asking->bytes);
        return NULL;
    }
    *copy = *ask;
    copy->since = time_now_boottime();
    asking->bytes += ask->bytes;
    return copy;
}

static void let_go(Ask *ask) {
    if (ask->done)
        ask->done(ask);
    for (size_t i = 0; i < ELEMENTS(ask->keys); i++)
        free(ask->keys[i]);
}

static void unlink_from(Ask **list, const Ask *ask) {
    while (*list && *list != ask)
        list = &(*list)->next;
    if (*list)
        *list = ask->next;
}

static void ask_free(Ask *ask) {
    Asking *asking = asking_of(ask);
    Api *api = ask->api;
    LinkUse use = ask->use;

    asking->bytes -= ask->bytes;
    if (ask->under_way) {
        asking->count--;
        unlink_from(&asking->under_way, ask);
    }
    let_go(ask);
    free(ask);
    begin_next(api, use);
}

static void fail(Ask *ask, const DbReply *reply) {
    /* What became of its first sending is not told by what a later one met. */
    if (ask->lost)
        reply = &lost;
    if (ask->failed)
        ask->failed(ask, reply);
    else
        failure_answer(ask->request, reply);
    ask_free(ask);
}

Ask *ask_new(const Ask *ask) {
    Asking *asking = asking_of(ask);

    if (asking->count >= ASKING_MAX) {
        problem_answer(
            ask->request, PROBLEM_BUSY, "%zu requests of this kind are under way already", asking->count);
        return NULL;
    }
    Ask *copy = admit(ask);
    if (copy) {
        copy->under_way = true;
        asking->count++;
    }
    return copy;
}

Db *ask_db(const Ask *ask) {
    return link_db(ask->api->links[ask->use]);
}

void ask_sent(Ask *ask, int r) {
    if (r >= 0)
        return;
    problem_answer(ask->request, PROBLEM_BUSY, "The request could not be sent to the database");
    ask_free(ask);
}

/* ---- those that want the same ---- */

static bool share_key(const Ask *a, const Ask *b) {
    for (size_t i = 0; i < ELEMENTS(a->keys); i++)
        for (size_t k = 0; a->keys[i] && k < ELEMENTS(b->keys); k++)
            if (b->keys[k] && streq(a->keys[i], b->keys[k]))
                return true;
    return false;
}

/* The one under way that ask has to wait for. */
static const Ask *find_rival(const Ask *ask) {
    for (const Ask *a = asking_of(ask)->under_way; a; a = a->next)
        if (share_key(a, ask))
            return a;
    return NULL;
}

/* From the first one anew each time: an answer may bring the next one its turn. */
static void fail_rivals(const Ask *ask, const DbReply *reply) {
    Ask *a = asking_of(ask)->waiting;

    while (a) {
        Ask *next = a->next;
        if (share_key(a, ask)) {
            unlink_from(&asking_of(ask)->waiting, a);
            fail(a, reply);
            next = asking_of(ask)->waiting;
        }
        a = next;
    }
}

/* ---- again ---- */

static void look_soon(Asks *asks) {
    if (!asks->ticking)
        asks->ticking = timer_start(asks->tick, TICK_USEC) >= 0;
}

/* May it be sent once more? */
static bool is_worth_it(const Ask *ask, DbOutcome outcome) {
    uint64_t age = time_now_boottime() - ask->since;

    if (!ask->send || (outcome != DB_LOST && outcome != DB_LOCKED && outcome != DB_RETRY))
        return false;
    return age < (outcome == DB_LOST || ask->lost ? GIVE_UP_LOST_USEC : GIVE_UP_LOCKED_USEC);
}

static void again(Ask *ask) {
    ask->again = true;
    look_soon(ask->api->asks);
}

void ask_on_reply(_unused_ Db *db, const DbReply *reply, void *userdata) {
    Ask *ask = userdata;
    DbReply known = *reply;

    known.outcome = db_outcome(reply);
    if (known.outcome == DB_OK && db_rows(known.rows) > 0) {
        ask->answer(ask, known.rows);
        return ask_free(ask);
    }
    if (known.outcome == DB_LOCKED && !ask->blocked) {
        ask->blocked = true;
        fail_rivals(ask, &known);
    }
    if (!is_worth_it(ask, known.outcome))
        return fail(ask, &known);
    ask->lost |= known.outcome == DB_LOST;
    again(ask);
}

static void send_now(Ask *ask) {
    Db *db = ask_db(ask);
    int r = db ? task_be_brief(db) : -ENOTCONN;

    ask->again = false;
    if (r >= 0)
        r = ask->send(ask, db);
    if (r >= 0)
        return;
    if (is_worth_it(ask, DB_LOST))
        again(ask);
    else
        fail(ask, &lost);
}

/* ---- their turn ---- */

static bool is_full(const Asking *asking, LinkUse use) {
    return asking->count >= (use == LINK_BULK ? ASKING_BULKS_MAX : ASKING_MAX);
}

static void begin(Ask *ask) {
    Asking *asking = asking_of(ask);

    ask->under_way = true;
    ask->since = time_now_boottime();
    ask->next = asking->under_way;
    asking->under_way = ask;
    asking->count++;
    send_now(ask);
}

/* The first one that may. An answer may have come from anywhere, so only one at a time: its own brings the next. */
static void begin_next(Api *api, LinkUse use) {
    Asking *asking = &api->asking[use];
    Ask *ask = link_db(api->links[use]) && !is_full(asking, use) ? asking->waiting : NULL;

    while (ask && find_rival(ask))
        ask = ask->next;
    if (!ask)
        return;
    unlink_from(&asking->waiting, ask);
    begin(ask);
}

void ask_start(const Ask *ask) {
    Ask *copy = admit(ask);

    if (!copy)
        return let_go((Ask *) ask);
    const Ask *rival = find_rival(copy);
    Asking *asking = asking_of(copy);
    if (rival && rival->blocked)
        return fail(
            copy, &(DbReply){ .outcome = DB_LOCKED, .sqlstate = "", .message = "", .constraint = "" });
    if (!rival && !asking->waiting && !is_full(asking, copy->use))
        return begin(copy);
    Ask **end = &asking->waiting;
    while (*end)
        end = &(*end)->next;
    copy->next = NULL;
    *end = copy;
    look_soon(copy->api->asks);
}

/* Answers those that have waited too long, the first ones; true: others wait. */
static bool visit_waiting(Asking *asking, uint64_t now) {
    while (asking->waiting && now - asking->waiting->since >= WAIT_USEC) {
        Ask *ask = asking->waiting;
        asking->waiting = ask->next;
        problem_answer(ask->request, PROBLEM_BUSY, "%zu requests of this kind are under way", asking->count);
        ask_free(ask);
    }
    return asking->waiting;
}

static void send_due(Asking *asking) {
    for (Ask *ask = asking->under_way, *next; ask; ask = next) {
        next = ask->next;
        if (ask->again)
            send_now(ask);
    }
}

static int on_tick(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
    const uint64_t now = time_now_boottime();
    Asks *asks = userdata;

    asks->ticking = false;
    for (size_t use = 0; use < _LINK_USE_MAX; use++) {
        Asking *asking = &asks->api->asking[use];
        send_due(asking);
        begin_next(asks->api, use);
        if (visit_waiting(asking, now))
            look_soon(asks);
    }
    return 0;
}

int asks_new(Asks **ret, sd_event *event, Api *api) {
    Asks *asks = calloc(1, sizeof(Asks));

    if (!asks)
        return -ENOMEM;
    asks->api = api;
    int r = timer_new(&asks->tick, event, USEC_PER_MSEC, on_tick, asks);
    if (r < 0) {
        free(asks);
        return r;
    }
    *ret = asks;
    return 0;
}

Asks *asks_free(Asks *asks) {
    if (!asks)
        return NULL;
    for (size_t use = 0; use < _LINK_USE_MAX; use++) {
        Asking *asking = &asks->api->asking[use];
        while (asking->under_way)
            fail(asking->under_way, &lost);
        while (asking->waiting) {
            Ask *ask = asking->waiting;
            asking->waiting = ask->next;
            fail(ask, &lost);
        }
    }
    sd_event_source_disable_unref(asks->tick);
    free(asks);
    return NULL;
}
