/* SPDX-License-Identifier: MIT */
#include "api/link.h"

#include "base/util.h"
#include "store/schema.h"

#define RECHECK_USEC USEC_PER_SEC

struct Link {
    Db *db;
    bool checked; /* and found good, in this session */
    char *why;    /* NULL: checked, or new */
    sd_event_source *recheck;
    LinkChanged changed;
    void *userdata;
};

/* why: NULL, it can be used. */
static void set_state(Link *l, const char *why) {
    bool checked = !why;

    if (checked == l->checked && (checked || (l->why && streq(l->why, why))))
        return;
    l->checked = checked;
    if (string_replace(&l->why, why) < 0) {
        free(l->why);
        l->why = NULL;
    }
    if (l->changed)
        l->changed(l, l->userdata);
}

static void recheck_later(Link *l) {
    if (sd_event_source_set_time_relative(l->recheck, RECHECK_USEC) >= 0)
        (void) sd_event_source_set_enabled(l->recheck, SD_EVENT_ONESHOT);
}

static void on_checked(_unused_ Db *db, const DbReply *reply, void *userdata) {
    Link *l = userdata;
    _cleanup_(freep) char *why = NULL;
    int version;

    if (reply->outcome == DB_LOST)
        return; /* on_lost() comes next */
    version = schema_version_of(reply);
    if (version >= (int) schema_version())
        return set_state(l, NULL);
    if (version < 0)
        (void) string_printf(&why, "waiting: the schema's version cannot be read: %s", reply->message);
    else
        (void) string_printf(&why,
            "waiting: run pgmill migrate (the database has schema %d, this version needs %u)", version,
            schema_version());
    recheck_later(l);
    set_state(l, why ? why : "out of memory");
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
    _cleanup_(freep) char *why = NULL;

    (void) sd_event_source_set_enabled(l->recheck, SD_EVENT_OFF);
    (void) string_printf(&why, "waiting for the database: %s", error);
    set_state(l, why ? why : "out of memory");
}

int link_new(Link **ret, sd_event *event, const char *conninfo, const char *name, LinkChanged changed,
    void *userdata, char **ret_error) {
    static const DbEvents events = { .connected = on_connected, .lost = on_lost };
    _cleanup_(link_freep) Link *l = calloc(1, sizeof(Link));

    if (!l)
        return -ENOMEM;
    l->changed = changed;
    l->userdata = userdata;
    int r = sd_event_add_time_relative(event, &l->recheck, CLOCK_BOOTTIME, 0, USEC_PER_MSEC, on_recheck, l);
    if (r < 0)
        return r;
    r = sd_event_source_set_enabled(l->recheck, SD_EVENT_OFF);
    if (r < 0)
        return r;
    r = db_new(&l->db, event, conninfo, name, &events, l, ret_error);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(l);
    return 0;
}

Link *link_free(Link *l) {
    if (!l)
        return NULL;
    l->changed = NULL;
    db_free(l->db);
    sd_event_source_disable_unref(l->recheck);
    free(l->why);
    free(l);
    return NULL;
}

void link_freep(Link **l) {
    link_free(*l);
}

Db *link_db(const Link *l) {
    return l->checked && db_is_connected(l->db) ? l->db : NULL;
}

const char *link_why(const Link *l) {
    return l->why ? l->why : "connecting to the database";
}

bool link_is_new(const Link *l) {
    return !l->checked && !l->why;
}
