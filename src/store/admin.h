/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Queues, workers and figures (sql/functions/admin.sql). The database makes each answer as JSON, the shape that REST
 * shows.
 */
#include "base/id.h"
#include "store/db.h"

/* Each answers one row: (verdict, json). verdict: "done", "created", "unknown" (then json is NULL); and "used": the queue
 * cannot be deleted. */
int admin_queue(Db *db, const char *name, DbCallback callback, void *userdata);
/* A page; after: what the one before said is next, NULL for the first. */
int admin_queues(Db *db, const char *after, unsigned limit, DbCallback callback, void *userdata);
int admin_queue_delete(Db *db, const char *name, DbCallback callback, void *userdata);
int admin_queue_put(Db *db, const char *name, bool paused, int max_running, DbCallback callback,
    void *userdata); /* max_running < 0: no limit */
int admin_queue_change(Db *db, const char *name, const char *settings, DbCallback callback,
    void *userdata); /* settings: a JSON object of what is to change */
int admin_queue_pause(Db *db, const char *name, bool paused, DbCallback callback, void *userdata);
int admin_workers(Db *db, const Id *worker, DbCallback callback, void *userdata); /* NULL: all of them */
int admin_worker_quiet(Db *db, Id worker, DbCallback callback, void *userdata);
int admin_stats(Db *db, DbCallback callback, void *userdata);

/* Rows (metric, labels, value) as Prometheus prints them, those of one metric together; labels: queue="a",le="1". */
int admin_metrics(Db *db, DbCallback callback, void *userdata);

/* For client verbs: waits for the answer, a row as above. after: of the page, as above; what is not paged has none. */
typedef enum AdminView {
    ADMIN_QUEUES,
    ADMIN_WORKERS,
    ADMIN_STATS,
} AdminView;
int admin_view(Db *db, AdminView view, const char *after, DbRows **ret_rows, char **ret_error);
