/* SPDX-License-Identifier: MIT */
#include "api/ask.h"

#include "api/failure.h"
#include "api/problem.h"
#include "base/time.h"
#include "base/timer.h"

/* Of one session, one behind the other. */
#define ASKING_MAX       64
#define ASKING_BYTES_MAX (64U * 1024 * 1024)

#define AGAIN_USEC          (50 * USEC_PER_MSEC)
#define GIVE_UP_LOCKED_USEC (500 * USEC_PER_MSEC)
#define GIVE_UP_LOST_USEC   (60 * USEC_PER_SEC)

struct Asks {
    Ask *again; /* to be sent, in any order */
    sd_event_source *tick;
};

/* ---- one ---- */

Ask *ask_new(const Ask *ask) {
    Asking *asking = &ask->api->asking[ask->use];
    const Link *link = ask->api->links[ask->use];
    Ask *copy;

    if (!link_db(link)) {
        failure_answer_unusable(ask->request, link);
        return NULL;
    }
    bool fits = asking->count < ASKING_MAX &&
                (asking->bytes == 0 || asking->bytes + ask->bytes <= (size_t) ASKING_BYTES_MAX);
    copy = fits ? malloc(sizeof(Ask)) : NULL;
    if (!copy) {
        problem_answer(
            ask->request, PROBLEM_BUSY, "%zu requests of this kind are under way already", asking->count);
        return NULL;
    }
    *copy = *ask;
    copy->first_sent = time_now_boottime();
    asking->count++;
    asking->bytes += ask->bytes;
    return copy;
}

Db *ask_db(const Ask *ask) {
    return link_db(ask->api->links[ask->use]);
}

static void ask_free(Ask *ask) {
    Asking *asking = &ask->api->asking[ask->use];

    asking->count--;
    asking->bytes -= ask->bytes;
    if (ask->done)
        ask->done(ask);
    free(ask);
}

void ask_sent(Ask *ask, int r) {
    if (r >= 0)
        return;
    problem_answer(ask->request, PROBLEM_BUSY, "The request could not be sent to the database");
    ask_free(ask);
}

static void fail(Ask *ask, const DbReply *reply) {
    if (ask->failed)
        ask->failed(ask, reply);
    else
        failure_answer(ask->request, reply);
    ask_free(ask);
}

/* ---- again ---- */

static void again(Ask *ask) {
    Asks *asks = ask->api->asks;

    if (!asks->again)
        (void) timer_start(asks->tick, AGAIN_USEC);
    ask->next = asks->again;
    asks->again = ask;
}

/* May it be sent once more? */
static bool is_worth_it(const Ask *ask, DbOutcome outcome) {
    uint64_t age = time_now_boottime() - ask->first_sent;

    if (!ask->send || (outcome != DB_LOST && outcome != DB_LOCKED && outcome != DB_RETRY))
        return false;
    return age < (outcome == DB_LOST || ask->lost ? GIVE_UP_LOST_USEC : GIVE_UP_LOCKED_USEC);
}

void ask_on_reply(_unused_ Db *db, const DbReply *reply, void *userdata) {
    Ask *ask = userdata;
    DbReply known = *reply;

    known.outcome = db_outcome(reply);
    if (known.outcome == DB_OK && db_rows(known.rows) > 0) {
        ask->answer(ask, known.rows);
        return ask_free(ask);
    }
    if (!is_worth_it(ask, known.outcome))
        return fail(ask, &known);
    ask->lost |= known.outcome == DB_LOST;
    again(ask);
}

static void send_now(Ask *ask) {
    Db *db = ask_db(ask);
    int r = db ? task_be_brief(db) : -ENOTCONN;

    if (r >= 0)
        r = ask->send(ask, db);
    if (r >= 0)
        return;
    if (is_worth_it(ask, DB_LOST))
        return again(ask);
    fail(ask, &(DbReply){ .outcome = DB_LOST, .sqlstate = "", .message = "", .constraint = "" });
}

void ask_start(const Ask *ask) {
    Ask *copy = ask_new(ask);

    if (copy)
        send_now(copy);
    else if (ask->done)
        ask->done((Ask *) ask);
}

static int on_tick(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
    Asks *asks = userdata;
    Ask *list = TAKE_PTR(asks->again);

    while (list) {
        Ask *ask = list;
        list = ask->next;
        send_now(ask);
    }
    return 0;
}

int asks_new(Asks **ret, sd_event *event) {
    Asks *asks = calloc(1, sizeof(Asks));

    if (!asks)
        return -ENOMEM;
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
    while (asks->again) {
        Ask *ask = asks->again;
        asks->again = ask->next;
        fail(ask, &(DbReply){ .outcome = DB_LOST, .sqlstate = "", .message = "", .constraint = "" });
    }
    sd_event_source_disable_unref(asks->tick);
    free(asks);
    return NULL;
}
