/* SPDX-License-Identifier: MIT */
#include "api/watch.h"

#include "base/timer.h"
#include "store/task.h"
#include "store/watch.h"

#define RENEW_USEC (5 * USEC_PER_SEC)

struct Watch {
    Link *link;
    Id api;
    const WatchEvents *events;
    void *userdata;
    size_t watching;
    bool begun, live; /* the lease was asked for; it is there */
    sd_event_source *renew;
};

static void renew_later(Watch *w) {
    (void) timer_start(w->renew, RENEW_USEC);
}

static void lost(Watch *w) {
    bool had_begun = w->begun;

    w->begun = w->live = false;
    (void) sd_event_source_set_enabled(w->renew, SD_EVENT_OFF);
    if (had_begun)
        w->events->gap(w->userdata);
}

static void on_begun(_unused_ Db *db, const DbReply *reply, void *userdata) {
    Watch *w = userdata;

    if (reply->outcome == DB_LOST)
        return;     /* watch_link_changed() comes next */
    renew_later(w); /* or tries again */
    w->begun = w->live = reply->outcome == DB_OK;
    if (w->live)
        w->events->live(w->userdata);
}

static void begin(Watch *w) {
    Db *db = link_db(w->link);

    if (w->begun || w->watching == 0 || !db)
        return;
    w->begun = watch_begin(db, w->api, on_begun, w) >= 0;
    if (!w->begun)
        renew_later(w);
}

/* It lapsed: the process stood still for longer than the lease, or somebody deleted it. */
static void on_renewed(_unused_ Db *db, const DbReply *reply, void *userdata) {
    Watch *w = userdata;

    if (reply->outcome == DB_LOST || (reply->outcome == DB_OK && db_bool(reply->rows, 0, 0)))
        return;
    lost(w);
    begin(w);
}

static int on_renew(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
    Watch *w = userdata;
    Db *db = link_db(w->link);

    if (!db)
        return 0;
    if (w->watching == 0 && w->begun) {
        lost(w);
        (void) watch_end(db, w->api, NULL, NULL);
    } else if (!w->begun)
        begin(w);
    else {
        (void) watch_renew(db, w->api, on_renewed, w);
        renew_later(w);
    }
    return 0;
}

void watch_link_changed(Watch *w) {
    if (link_db(w->link))
        begin(w);
    else
        lost(w);
}

void watch_begin_one(Watch *w) {
    w->watching++;
    begin(w);
}

void watch_end_one(Watch *w) {
    w->watching--; /* the lease ends when it would be renewed: the next one may come soon */
}

bool watch_is_live(const Watch *w) {
    return w->live;
}

/* ---- notifications ---- */

static void member_take(WatchEvent *e, const char *key, char *value, char **queue) {
    if (streq(key, "id"))
        (void) id_parse(value, &e->id);
    else if (streq(key, "status"))
        e->ended = task_status_is_end(task_status_from_string(value));
    else if (streq(key, "queue")) {
        free(*queue);
        *queue = value;
        return;
    }
    free(value);
}

static void event_tell(Watch *w, const JsonSpan *text) {
    _cleanup_(freep) char *queue = NULL;
    WatchEvent e = { .text = *text };
    size_t position = 0;

    for (;;) {
        _cleanup_(freep) char *key = NULL;
        char *value = NULL;
        JsonSpan span;

        if (json_next_member(text, &position, &key, &span) <= 0)
            break;
        if (json_string(&span, &value) >= 0)
            member_take(&e, key, value, &queue);
    }
    e.queue = queue ? queue : "";
    w->events->event(&e, w->userdata);
}

void watch_notified(Watch *w, const char *payload) {
    JsonSpan list, element;
    size_t position = 0;

    if (!w->live || json_check(payload, strlen(payload), &list, NULL, NULL) < 0 || list.type != JSON_ARRAY)
        return;
    while (json_next_element(&list, &position, &element) > 0)
        if (element.type == JSON_OBJECT)
            event_tell(w, &element);
}

int watch_new(Watch **ret, sd_event *event, Link *link, Id api, const WatchEvents *events, void *userdata) {
    Watch *w = calloc(1, sizeof(Watch));

    if (!w)
        return -ENOMEM;
    *w = (Watch){ .link = link, .api = api, .events = events, .userdata = userdata };
    int r = timer_new(&w->renew, event, USEC_PER_SEC / 4, on_renew, w);
    if (r < 0) {
        watch_free(w);
        return r;
    }
    *ret = w;
    return 0;
}

Watch *watch_free(Watch *w) {
    if (!w)
        return NULL;
    sd_event_source_disable_unref(w->renew);
    free(w);
    return NULL;
}
