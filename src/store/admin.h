/* SPDX-License-Identifier: MIT */
#pragma once
#include "base/id.h"
#include "store/db.h"
int admin_queues(Db *db, const char *name, DbCallback callback, void *userdata);
int admin_queue_put(
    Db *db, const char *name, bool paused, int max_running, DbCallback callback, void *userdata);
int admin_queue_pause(Db *db, const char *name, bool paused, DbCallback callback, void *userdata);
int admin_workers(Db *db, const Id *id, DbCallback callback, void *userdata);
int admin_worker_quiet(Db *db, Id id, DbCallback callback, void *userdata);
int admin_stats(Db *db, DbCallback callback, void *userdata);
int admin_metrics(Db *db, DbCallback callback, void *userdata);
