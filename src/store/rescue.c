/* SPDX-License-Identifier: MIT */
#include "store/rescue.h"

#include <stdio.h>

#include "base/id.h"
#include "base/log.h"
#include "base/log_id.h"
#include "base/time.h"
#include "base/timer.h"
#include "base/util.h"

#define LOOK_USEC  (2 * USEC_PER_SEC)
#define TIDY_LOOKS 5 /* a round of house-keeping with every fifth look */

/* A worker whose lock was free at every look since `since`, its beat unchanged. */
typedef struct Suspect {
    Id worker;
    int64_t beat;
    uint64_t since; /* CLOCK_BOOTTIME */
    bool seen;      /* in the look being read */
} Suspect;

struct Rescuer {
    Db *db;
    sd_event_source *timer;
    Suspect *suspects;
    size_t n_suspects;
    unsigned looks;
};

static const DbStatement look_statement = { .name = "suspects",
    .sql = "SELECT worker, instance, beat, grace, dead FROM pgmill.suspects()",
    .params = 0 };
static const DbStatement give_up_statement = { .name = "give_up",
    .sql = "SELECT pgmill.give_up($1, $2), w.instance, w.host FROM pgmill.workers w WHERE w.id = $1",
    .params = 2 };
static const DbStatement rescue_statement = {
    .name = "rescue", .sql = "SELECT pgmill.rescue($1)", .params = 1
};

static const DbStatement tidy_statement = { .name = "tidy", .sql = "SELECT pgmill.tidy()", .params = 0 };

static void on_rescued(_unused_ Db *db, const DbReply *reply, _unused_ void *userdata) {
    if (reply->outcome == DB_OK && db_int(reply->rows, 0, 0) > 0)
        log_notice("Gave %jd tasks of a dead worker back", (intmax_t) db_int(reply->rows, 0, 0));
    else if (reply->outcome == DB_FATAL)
        log_error("Cannot give a dead worker's tasks back: %s", reply->message);
}

static void give_back(Rescuer *r, const char *worker) {
    (void) db_call(r->db, &rescue_statement, &worker, on_rescued, r);
}

static void on_given_up(_unused_ Db *db, const DbReply *reply, _unused_ void *userdata) {
    if (reply->outcome == DB_OK && db_bool(reply->rows, 0, 0))
        log_event(LOG_NOTICE, LOG_ID_WORKER_RESCUED, NULL,
            "Gave worker %s on %s up: its session is gone and it gave no sign of life for its grace period",
            db_value(reply->rows, 0, 1), db_value(reply->rows, 0, 2));
}

static Suspect *suspect_find(Rescuer *r, Id worker) {
    for (size_t i = 0; i < r->n_suspects; i++)
        if (id_equal(r->suspects[i].worker, worker))
            return &r->suspects[i];
    return NULL;
}

static Suspect *suspect_add(Rescuer *r, Id worker) {
    Suspect *list = reallocarray(r->suspects, r->n_suspects + 1, sizeof(Suspect));

    if (!list)
        return NULL;
    r->suspects = list;
    list[r->n_suspects] = (Suspect){ .worker = worker, .beat = -1 };
    return &list[r->n_suspects++];
}

/* One worker whose lock is free now. Any change of its beat starts the wait over. */
static void suspect_seen(Rescuer *r, const char *worker, int64_t beat, double grace) {
    char beat_text[24];
    Id id;

    if (id_parse(worker, &id) < 0)
        return;
    Suspect *s = suspect_find(r, id);
    if (!s)
        s = suspect_add(r, id);
    if (!s)
        return; /* no memory: the next look */
    s->seen = true;
    if (s->beat != beat) {
        s->beat = beat;
        s->since = time_now_boottime();
        return;
    }
    if (time_now_boottime() - s->since < (uint64_t) (grace * 1e6))
        return;
    (void) snprintf(beat_text, sizeof(beat_text), "%jd", (intmax_t) beat);
    (void) db_call(r->db, &give_up_statement, (const char *[]){ worker, beat_text }, on_given_up, r);
    give_back(r, worker);
}

static void suspects_sweep(Rescuer *r) {
    size_t kept = 0;

    for (size_t i = 0; i < r->n_suspects; i++)
        if (r->suspects[i].seen)
            r->suspects[kept++] = r->suspects[i];
    r->n_suspects = kept;
}

static void on_look(_unused_ Db *db, const DbReply *reply, void *userdata) {
    Rescuer *r = userdata;

    if (reply->outcome != DB_OK)
        return;
    for (size_t i = 0; i < r->n_suspects; i++)
        r->suspects[i].seen = false;
    for (size_t i = 0; i < db_rows(reply->rows); i++) {
        const char *worker = db_value(reply->rows, i, 0);
        if (db_bool(reply->rows, i, 4))
            give_back(r, worker); /* given up before; a row was held then */
        else
            suspect_seen(r, worker, db_int(reply->rows, i, 2), db_double(reply->rows, i, 3));
    }
    suspects_sweep(r);
}

static void on_tidied(_unused_ Db *db, const DbReply *reply, _unused_ void *userdata) {
    if (reply->outcome == DB_FATAL)
        log_error("Cannot fold the tallies: %s", reply->message);
}

static int on_timer(sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
    Rescuer *r = userdata;

    if (db_is_connected(r->db)) {
        (void) db_call(r->db, &look_statement, NULL, on_look, r);
        if (r->looks++ % TIDY_LOOKS == 0)
            (void) db_call(r->db, &tidy_statement, NULL, on_tidied, r);
    }
    return timer_start(s, LOOK_USEC / 2 + random_u32() % LOOK_USEC);
}

int rescuer_new(Rescuer **ret, sd_event *event, Db *db) {
    _cleanup_(rescuer_freep) Rescuer *r = calloc(1, sizeof(Rescuer));

    if (!r)
        return -ENOMEM;
    r->db = db;
    int e = sd_event_add_time_relative(
        event, &r->timer, CLOCK_BOOTTIME, LOOK_USEC, 100 * USEC_PER_MSEC, on_timer, r);
    if (e < 0)
        return e;
    *ret = TAKE_PTR(r);
    return 0;
}

void rescuer_reset(Rescuer *r) {
    if (r)
        r->n_suspects = 0;
}

Rescuer *rescuer_free(Rescuer *r) {
    if (!r)
        return NULL;
    sd_event_source_disable_unref(r->timer);
    free(r->suspects);
    free(r);
    return NULL;
}

void rescuer_freep(Rescuer **r) {
    rescuer_free(*r);
}
