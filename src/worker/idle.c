/* SPDX-License-Identifier: MIT */
/*
 * A worker that was started on demand ends when nobody needs it any more (IdleExitSec=). Its socket stays, and starts it
 * again; the API calls when tasks wait that nobody serves. Before it ends the database says whether it may.
 */
#include <stdio.h>

#include "base/log.h"
#include "base/time.h"
#include "worker/control.h"
#include "worker/core.h"

static bool has_to_do(const Worker *w) {
    return w->n_runs > 0 || w->draining || !w->session || !w->took_over || control_followed(w->control);
}

static void on_idle(_unused_ Db *db, const DbReply *reply, void *userdata) {
    char span[TIME_SPAN_SIZE];
    Worker *w = userdata;

    w->idle_asked = false;
    if (reply->outcome != DB_OK || !db_bool(reply->rows, 0, 0) || has_to_do(w)) {
        w->idle_since = time_now_boottime(); /* asked again when as much time has passed */
        return;
    }
    log_info("Nothing to do for %s (IdleExitSec=): ending", time_format_span(w->config.idle_exit_usec, span));
    worker_drain(w);
}

void idle_look(Worker *w) {
    const uint64_t now = time_now_boottime();

    if (w->config.idle_exit_usec == UINT64_MAX)
        return;
    if (has_to_do(w) || w->idle_since == 0)
        w->idle_since = now;
    else if (!w->idle_asked && now - w->idle_since >= w->config.idle_exit_usec)
        w->idle_asked = worker_idle(w->db, &w->info, on_idle, w) >= 0;
}
