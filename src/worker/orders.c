/* SPDX-License-Identifier: MIT */
/*
 * What operators ask of tasks that run here: to end, to stand still, to go on. The database holds the wish, this process
 * does it and says so (pgmill.orders, pgmill.obey).
 */
#include "base/time.h"
#include "worker/core.h"

/* A notification hastens it; it is looked for every second all the same. */
bool orders_due(const Worker *w) {
    return w->n_busy > 0 && (w->orders_wanted || time_now_boottime() - w->orders_read >= POLL_USEC);
}

typedef struct Order {
    bool cancel, pause, frozen;
} Order;

/* What is asked of a run now; nothing, if it is not in the answer. */
static Order order_of(const Run *run, const DbRows *rows) {
    for (size_t i = 0; i < db_rows(rows); i++)
        if (streq(db_value(rows, i, ORDER_ID), run->id_text) &&
            db_int(rows, i, ORDER_CLAIM_NO) == run->claim_no)
            return (Order){ .cancel = db_bool(rows, i, ORDER_CANCEL),
                .pause = db_bool(rows, i, ORDER_PAUSE),
                .frozen = db_bool(rows, i, ORDER_FROZEN) };
    return (Order){};
}

/* Asked again every second: what went wrong, or was not written, is made good then. */
static void on_orders(_unused_ Db *db, const DbReply *reply, void *userdata) {
    Worker *w = userdata;

    for (size_t i = 0; reply->outcome == DB_OK && i < w->n_runs; i++) {
        Run *run = w->runs[i];
        if (run->state != RUN_RUNNING && !run_is_idle(run))
            continue;
        const Order order = order_of(run, reply->rows);
        if (run_is_idle(run)) {
            if (order.cancel || order.pause)
                run_return(run); /* the database does the rest */
            continue;
        }
        run->frozen_told = order.frozen;
        run->unable = order.pause && !run->executor->freeze;
        if (order.cancel)
            run_cancel(run);
        else if (order.pause && w->draining)
            run_interrupt(run);
        else
            run_pause(run, order.pause);
        w->obey_wanted |= run->unable || run->frozen != run->frozen_told;
    }
}

/* What came of the orders, of all runs of which it is not written yet; a group of its own. */
int orders_obeyed(Worker *w) {
    WorkerObeyed list[OBEY_MAX];
    size_t n = 0;

    w->obey_wanted = false;
    for (size_t i = 0; i < w->n_runs && n < OBEY_MAX; i++) {
        Run *run = w->runs[i];
        if (run->state != RUN_RUNNING || (!run->unable && run->frozen == run->frozen_told))
            continue;
        run->frozen_told = run->frozen; /* else the next orders tell */
        list[n++] = (WorkerObeyed){ run->id, run->claim_no,
            run->unable   ? "unable"
            : run->frozen ? "frozen"
                          : "thawed" };
    }
    return n > 0 ? worker_obey(w->db, w->info.id, list, n) : 0;
}

/* A group of its own that writes nothing: asking every second costs no durable commit. */
int orders_ask(Worker *w) {
    w->orders_wanted = false;
    w->orders_read = time_now_boottime();
    int r = worker_orders(w->db, w->info.id, on_orders, w);
    return r < 0 ? r : db_sync(w->db, NULL, NULL);
}

void orders_want(Worker *w) {
    w->orders_wanted = true;
    turn_want(w, false);
}
