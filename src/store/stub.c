/* SPDX-License-Identifier: MIT */
/* What admin.h and watch.h declare, until their SQL is there: every call says that it cannot be sent. */
#include <errno.h>

#include "store/admin.h"
#include "store/watch.h"

#define STUB(declaration) \
    declaration {         \
        return -ENOTCONN; \
    }

#pragma GCC diagnostic ignored "-Wunused-parameter"
STUB(int admin_queues(Db *db, const char *name, DbCallback callback, void *userdata))
STUB(int admin_queue_put(
    Db *db, const char *name, bool paused, int max_running, DbCallback callback, void *userdata))
STUB(int admin_queue_pause(Db *db, const char *name, bool paused, DbCallback callback, void *userdata))
STUB(int admin_workers(Db *db, const Id *id, DbCallback callback, void *userdata))
STUB(int admin_worker_quiet(Db *db, Id id, DbCallback callback, void *userdata))
STUB(int admin_stats(Db *db, DbCallback callback, void *userdata))
STUB(int admin_metrics(Db *db, DbCallback callback, void *userdata))
STUB(int watch_begin(Db *db, Id api, DbCallback callback, void *userdata))
STUB(int watch_renew(Db *db, Id api, DbCallback callback, void *userdata))
STUB(int watch_end(Db *db, Id api, DbCallback callback, void *userdata))
