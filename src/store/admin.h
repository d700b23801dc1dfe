/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What operators and monitoring ask and do about queues, workers and the whole (sql/functions/admin.sql).
 * The answers are built in SQL: one row (verdict, json), json being the whole answer as REST shows it.
 * verdict: "done", "created" (a queue's configuration is new), "unknown" (no such queue or worker; json NULL).
 */
#include "base/id.h"
#include "store/db.h"

/* name: NULL for {"queues":[…]}, the first 1,000 by name; else that queue, "unknown" if nothing ever used it. */
int admin_queues(Db *db, const char *name, DbCallback callback, void *userdata);
/* max_running: < 0: no limit. Name must be a task_label_valid(). */
int admin_queue_put(
    Db *db, const char *name, bool paused, int max_running, DbCallback callback, void *userdata);
int admin_queue_pause(Db *db, const char *name, bool paused, DbCallback callback, void *userdata);

/* NULL for {"workers":[…]}, the newest 1,000 that have a heartbeat row; else that worker. */
int admin_workers(Db *db, const Id *worker, DbCallback callback, void *userdata);
int admin_worker_quiet(Db *db, Id worker, DbCallback callback, void *userdata);

int admin_stats(Db *db, DbCallback callback, void *userdata);

/* Rows (metric, labels, value), those of a metric together: `queue="a",status="PAUSED"`, "" for none; to be printed
 * under HELP and TYPE of their own. A histogram's rows are those of NAME_bucket, NAME_sum and NAME_count. */
int admin_metrics(Db *db, DbCallback callback, void *userdata);
