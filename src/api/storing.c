/* SPDX-License-Identifier: MIT */
#include "api/storing.h"

#include "base/time.h"
#include "base/timer.h"
#include "store/task.h"

#define LOOK_USEC     USEC_PER_SEC
#define PROVEN_USEC   (10 * USEC_PER_SEC) /* so long one that was stored tells enough */
#define REHEARSAL_MAX (1024U * 1024)

struct Storing {
    Link *link;
    void (*changed)(void *userdata);
    void *userdata;
    sd_event_source *timer;
    bool works, asked;
    char *why;
    size_t bytes; /* of what failed last: what fits into a page that is there says nothing of a full disk */
    uint64_t proven; /* CLOCK_BOOTTIME; 0: not on this session */
};

/* why: NULL, it works. */
static void decide(Storing *s, const char *why) {
    bool same = s->works == !why && (!why || (s->why && streq(s->why, why)));

    if (!why) {
        s->proven = time_now_boottime();
        s->bytes = 0;
    }
    s->works = !why;
    (void) string_replace(&s->why, why);
    if (!same)
        s->changed(s->userdata);
}

static void on_rehearsed(_unused_ Db *db, const DbReply *reply, void *userdata) {
    Storing *s = userdata;

    s->asked = false;
    if (reply->outcome == DB_OK)
        decide(s, reply->warned ? "a commit did not wait for its replication" : NULL);
    else if (reply->outcome != DB_LOST)
        decide(s, reply->message);
}

static void rehearse(Storing *s) {
    Db *db = link_db(s->link);

    if (db && !s->asked)
        s->asked = task_rehearse(db, s->bytes, on_rehearsed, s) >= 0;
}

void storing_told(Storing *s, const DbReply *reply, size_t bytes) {
    if (reply->outcome == DB_OK && !reply->warned)
        return decide(s, NULL);
    if (reply->outcome == DB_RETRY || reply->outcome == DB_FATAL) {
        s->bytes = MIN(MAX(s->bytes, bytes), (size_t) REHEARSAL_MAX);
        rehearse(s);
    }
}

void storing_link_changed(Storing *s) {
    s->proven = 0;
    if (!link_db(s->link)) { /* what comes back may be another server, or one whose commits wait for ever */
        s->works = false;
        (void) string_replace(&s->why, NULL);
    }
    rehearse(s);
}

static int on_look(sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
    Storing *s = userdata;

    if (!s->works || time_now_boottime() - s->proven >= PROVEN_USEC)
        rehearse(s);
    return timer_start(source, LOOK_USEC);
}

bool storing_works(const Storing *s) {
    return s->works;
}

const char *storing_why(const Storing *s) {
    return s->works ? NULL : s->why;
}

int storing_new(Storing **ret, sd_event *event, Link *link, void (*changed)(void *userdata), void *userdata) {
    Storing *s = calloc(1, sizeof(Storing));

    if (!s)
        return -ENOMEM;
    *s = (Storing){ .link = link, .changed = changed, .userdata = userdata };
    int r = timer_new(&s->timer, event, LOOK_USEC / 4, on_look, s);
    if (r >= 0)
        r = timer_start(s->timer, LOOK_USEC);
    if (r < 0) {
        storing_free(s);
        return r;
    }
    *ret = s;
    return 0;
}

Storing *storing_free(Storing *s) {
    if (!s)
        return NULL;
    sd_event_source_disable_unref(s->timer);
    free(s->why);
    free(s);
    return NULL;
}
