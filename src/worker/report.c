/* SPDX-License-Identifier: MIT */
/*
 * Progress and status texts on their way to the database: once a second at most, however much the programs say, and
 * once more when one ends. Nobody waits for these commits, and what is lost with a session is sent again.
 */
#include "base/time.h"
#include "worker/core.h"

static bool to_report(const Run *run) {
    const char *status;
    double progress;

    return run->notify && run->state != RUN_CLAIMED && !run->locked &&
           notify_said(run->notify, &progress, &status);
}

void report_want(Worker *w) {
    w->report_wanted = true;
    if (report_due(w))
        turn_want(w, false); /* else the next poll does */
}

/* What was sent may not have arrived. */
static void report_again(Worker *w) {
    for (size_t i = 0; i < w->n_runs; i++)
        if (w->runs[i]->notify)
            notify_told(w->runs[i]->notify, false);
    w->report_wanted = true;
}

/* An end goes to the database behind the report of what was said last. */
bool report_due(const Worker *w) {
    if (!w->report_wanted)
        return false;
    for (size_t i = 0; i < w->n_runs; i++)
        if (w->runs[i]->state == RUN_ENDED && to_report(w->runs[i]))
            return true;
    return time_now_boottime() - w->reported >= POLL_USEC;
}

static void on_reported(_unused_ Db *db, const DbReply *reply, void *userdata) {
    Worker *w = userdata;

    if (reply->outcome == DB_LOST || reply->outcome == DB_RETRY || reply->outcome == DB_LOCKED)
        return report_again(w);
    for (size_t i = 0; reply->outcome == DB_OK && i < db_rows(reply->rows); i++) {
        Id id;
        Run *run = id_parse(db_value(reply->rows, i, 0), &id) < 0
                       ? NULL
                       : runs_find(w, id, db_int(reply->rows, i, 1));
        if (run && run->notify) {
            notify_told(run->notify, false);
            w->report_wanted = true;
        }
    }
}

int report_send(Worker *w) {
    WorkerReport list[REPORT_MAX];
    size_t n = 0;

    w->report_wanted = false;
    w->reported = time_now_boottime();
    for (size_t i = 0; i < w->n_runs; i++) {
        Run *run = w->runs[i];
        if (!to_report(run))
            continue;
        if (n == REPORT_MAX) {
            w->report_wanted = true;
            break;
        }
        list[n] = (WorkerReport){ .id = run->id, .claim_no = run->claim_no };
        (void) notify_said(run->notify, &list[n].progress, &list[n].status);
        notify_told(run->notify, true);
        n++;
    }
    return n > 0 ? worker_report(w->db, w->info.id, list, n, on_reported, w) : 0;
}
