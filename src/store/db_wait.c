/* SPDX-License-Identifier: MIT */
/*
 * The waiting half of db.h, for client verbs: turns the connection's own loop until the answer is there.
 */
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/time.h"
#include "base/util.h"
#include "store/db.h"

/* Units wait for these verbs without end, so they must not wait so for a connection that has gone mute. */
#define PATIENCE_USEC (60 * USEC_PER_SEC)

/* What a waiting caller waits for. The connection's userdata, so lost() finds it. */
typedef struct Wait {
    bool done, lost;
    char *error;
    DbOutcome outcome;
    DbRows *rows;
} Wait;

/* One waiter at a time: client verbs do one thing after the other. */
static Wait *waiting;

static void on_connected(_unused_ Db *db, _unused_ void *userdata) {
    if (waiting)
        waiting->done = true;
}

static void on_lost(_unused_ Db *db, const char *error, _unused_ void *userdata) {
    if (!waiting)
        return;
    waiting->done = waiting->lost = true;
    (void) string_replace(&waiting->error, error);
}

static const DbEvents wait_events = { .connected = on_connected, .lost = on_lost };

static int wait_done(Wait *w, sd_event *event) {
    waiting = w;
    while (!w->done) {
        int r = sd_event_run(event, UINT64_MAX);
        if (r < 0) {
            waiting = NULL;
            return r;
        }
    }
    waiting = NULL;
    return w->lost ? -ENOTCONN : 0;
}

int db_open(Db **ret, const char *conninfo, const char *name, char **ret_error) {
    _cleanup_(sd_event_unrefp) sd_event *event = NULL;
    _cleanup_(db_freep) Db *db = NULL;
    Wait w = {};

    int r = sd_event_new(&event);
    if (r < 0)
        return r;
    r = db_new(&db, event, conninfo, name, &wait_events, NULL, ret_error);
    if (r < 0)
        return r;
    r = wait_done(&w, event);
    if (r < 0) {
        *ret_error = w.error;
        return r;
    }
    db_patience(db, PATIENCE_USEC);
    *ret = TAKE_PTR(db);
    return 0;
}

/* libpq shows the effective user, and looks for certificates in HOME, where it takes a folder that it may not enter for an
 * error. */
int db_open_as_service(Db **ret, const char *conninfo, const char *name, char **ret_error) {
    const struct passwd *pw = geteuid() == 0 ? getpwnam(SERVICE_USER) : NULL;

    if (pw && (setenv("HOME", pw->pw_dir, 1) < 0 || setegid(pw->pw_gid) < 0 || seteuid(pw->pw_uid) < 0))
        return -errno;
    int r = db_open(ret, conninfo, name, ret_error);
    if (pw && (seteuid(0) < 0 || setegid(0) < 0))
        return -errno;
    return r;
}

static void on_reply(Db *db, const DbReply *reply, void *userdata) {
    Wait *w = userdata;

    w->done = true;
    w->outcome = db_outcome(reply);
    w->rows = db_take_rows(db);
    if (w->outcome != DB_OK)
        (void) string_replace(
            &w->error, reply->warned ? "the outcome is unknown: the commit may not have been replicated"
                                     : reply->message);
}

int db_query(Db *db, const DbStatement *statement, const char *const params[], DbRows **ret_rows,
    DbOutcome *ret_outcome, char **ret_error) {
    Wait w = {};

    int r = db_call(db, statement, params, on_reply, &w);
    if (r >= 0)
        r = wait_done(&w, db_event(db));
    if (ret_outcome)
        *ret_outcome = r < 0 ? DB_LOST : w.outcome;
    if (r >= 0 && w.outcome != DB_OK)
        r = w.outcome == DB_LOST ? -ENOTCONN : -EIO;
    if (r < 0) {
        db_rows_free(w.rows);
        *ret_error = w.error;
        return r;
    }
    if (ret_rows)
        *ret_rows = w.rows;
    else
        db_rows_free(w.rows);
    return 0;
}
