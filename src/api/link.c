/* SPDX-License-Identifier: MIT */
#include "api/link.h"

#include <stdio.h>

#include "base/log_id.h"
#include "base/timer.h"
#include "store/schema.h"

#define RECHECK_USEC USEC_PER_SEC

struct Link {
    Db *db;
    const char *state; /* one of the texts below; NULL: new */
    char *why;         /* more of it */
    sd_event_source *recheck;
    const LinkEvents *events;
    void *userdata;
};

static const char good[] = "connected", down[] = "waiting for the database",
                  old[] = "waiting: run pgmill migrate",
                  unclear[] = "waiting: the schema's version cannot be read";

static void set_state(Link *l, const char *state, const char *why) {
    if (state == l->state && streq(l->why, why))
        return;
    l->state = state;
    if (string_replace(&l->why, why) < 0)
        l->why[0] = '\0'; /* an old reason would be worse than none */
    l->events->changed(l, l->userdata);
}

static void recheck_later(Link *l) {
    (void) timer_start(l->recheck, RECHECK_USEC);
}

static void on_checked(_unused_ Db *db, const DbReply *reply, void *userdata) {
    Link *l = userdata;
    char why[128];
    int version;

    if (reply->outcome == DB_LOST)
        return; /* on_lost() comes next */
    version = schema_version_of(reply);
    if (version >= (int) schema_version())
        return set_state(l, good, "");
    recheck_later(l);
    if (version < 0)
        return set_state(l, unclear, reply->message);
    (void) snprintf(
        why, sizeof(why), "the database has schema %d, this version needs %u", version, schema_version());
    set_state(l, old, why);
}

static void check(Link *l) {
    if (db_is_connected(l->db) && schema_check(l->db, on_checked, l) < 0)
        recheck_later(l);
}

static int on_recheck(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
    check(userdata);
    return 0;
}

static void on_connected(_unused_ Db *db, void *userdata) {
    check(userdata);
}

static void on_lost(_unused_ Db *db, const char *error, void *userdata) {
    Link *l = userdata;

    (void) sd_event_source_set_enabled(l->recheck, SD_EVENT_OFF);
    set_state(l, down, error);
}

static void on_notified(_unused_ Db *db, const char *channel, const char *payload, void *userdata) {
    const Link *l = userdata;

    if (l->events->notified)
        l->events->notified(channel, payload, l->userdata);
}

static void on_pooled(_unused_ Db *db, void *userdata) {
    const Link *l = userdata;

    l->events->pooled(l->userdata);
}

int link_new(Link **ret, sd_event *event, const char *conninfo, const char *name, uint64_t patience,
    const LinkEvents *events, void *userdata, char **ret_error) {
    static const DbEvents db_events = { .connected = on_connected,
        .lost = on_lost,
        .notified = on_notified,
        .pooled = on_pooled,
        .writes = true };
    _cleanup_(link_freep) Link *l = calloc(1, sizeof(Link));

    if (!l || string_replace(&l->why, "") < 0)
        return -ENOMEM;
    l->events = events;
    l->userdata = userdata;
    int r = timer_new(&l->recheck, event, USEC_PER_MSEC, on_recheck, l);
    if (r < 0)
        return r;
    r = db_new(&l->db, event, conninfo, name, &db_events, l, ret_error);
    if (r < 0)
        return r;
    db_patience(l->db, patience);
    *ret = TAKE_PTR(l);
    return 0;
}

void link_close(Link *l) {
    if (!l)
        return;
    l->state = down; /* first: what was under way is handed back now, and must not be sent again */
    l->db = db_free(l->db);
}

Link *link_free(Link *l) {
    if (!l)
        return NULL;
    link_close(l);
    sd_event_source_disable_unref(l->recheck);
    free(l->why);
    free(l);
    return NULL;
}

void link_freep(Link **l) {
    link_free(*l);
}

Db *link_db(const Link *l) {
    return l->state == good && db_is_connected(l->db) ? l->db : NULL;
}

const char *link_state(const Link *l) {
    return l->state;
}

const char *link_why(const Link *l) {
    return l->why;
}

const char *link_log_id(const Link *l) {
    return l->state == down ? LOG_ID_DATABASE_LOST : l->state == old ? LOG_ID_SCHEMA_TOO_OLD : NULL;
}
