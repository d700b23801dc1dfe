/* SPDX-License-Identifier: MIT */
#include "api/poke.h"

#include <sys/socket.h>

#include "base/local.h"
#include "base/time.h"
#include "base/timer.h"
#include "store/task.h"
#include "store/worker.h"

#define LOOK_USEC      USEC_PER_SEC
#define AGAIN_MAX_USEC (60 * USEC_PER_SEC)

struct Poke {
    Link *link;
    sd_event_source *timer;
    bool asked;
    char *unserved;        /* queues, as they were last */
    uint64_t poked, again; /* CLOCK_BOOTTIME; how long to wait before the same queues are a reason anew */
};

/* A worker that is not there yet finds the word when it is. Who is in a hurry to go away has said it all the same. */
static int poke(const char *name, _unused_ void *userdata) {
    static const char word[] = "wake\n";
    _cleanup_(closep) int fd = -EBADF;

    if (task_label_valid(name) && local_connect(name, &fd) >= 0)
        (void) send(fd, word, strlen(word), MSG_NOSIGNAL | MSG_DONTWAIT);
    return 0;
}

/* Other queues than before: at once. The same ones, since the workers here cannot serve them: ever more rarely. */
static void on_unserved(_unused_ Db *db, const DbReply *reply, void *userdata) {
    const uint64_t now = time_now_boottime();
    Poke *p = userdata;

    p->asked = false;
    if (reply->outcome != DB_OK)
        return;
    const char *unserved = db_value(reply->rows, 0, 0);
    const bool same = streq(unserved, p->unserved);
    if (!same && string_replace(&p->unserved, unserved) < 0)
        return;
    if (streq(unserved, "{}") || (same && now - p->poked < p->again))
        return;
    p->again = same ? MIN(p->again * 2, AGAIN_MAX_USEC) : LOOK_USEC;
    p->poked = now;
    (void) local_workers(poke, NULL);
}

static int is_there(_unused_ const char *name, _unused_ void *userdata) {
    return -EEXIST;
}

static int on_look(sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
    Poke *p = userdata;
    Db *db = link_db(p->link);

    if (db && !p->asked && local_workers(is_there, NULL) == -EEXIST)
        p->asked = worker_unserved(db, on_unserved, p) >= 0;
    return timer_start(s, LOOK_USEC);
}

int poke_new(Poke **ret, sd_event *event, Link *link) {
    Poke *p = calloc(1, sizeof(Poke));

    if (!p)
        return -ENOMEM;
    p->link = link;
    int r = string_replace(&p->unserved, "{}");
    if (r >= 0)
        r = timer_new(&p->timer, event, LOOK_USEC / 4, on_look, p);
    if (r >= 0)
        r = timer_start(p->timer, LOOK_USEC);
    if (r < 0) {
        poke_free(p);
        return r;
    }
    *ret = p;
    return 0;
}

Poke *poke_free(Poke *p) {
    if (!p)
        return NULL;
    sd_event_source_disable_unref(p->timer);
    free(p->unserved);
    free(p);
    return NULL;
}
