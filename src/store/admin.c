/* SPDX-License-Identifier: MIT */
#include "store/admin.h"

#include <stdio.h>

#include "base/util.h"

/* What is shown, each with one parameter. */
static const DbStatement views[] = {
    [ADMIN_QUEUES] = { "show_queues", "SELECT verdict, shown FROM pgmill.show_queues($1)", 1 },
    [ADMIN_WORKERS] = { "show_workers", "SELECT verdict, shown FROM pgmill.show_workers($1)", 1 },
    [ADMIN_STATS] = { "show_stats", "SELECT verdict, shown FROM pgmill.show_stats($1)", 1 },
};

static const DbStatement queue_page = {
    .name = "list_queues", .sql = "SELECT verdict, shown FROM pgmill.show_queues(NULL, $1, $2)", .params = 2
};

int admin_view(Db *db, AdminView view, const char *after, DbRows **ret_rows, char **ret_error) {
    const char *const page[] = { after, "1000" }, *none = view == ADMIN_STATS ? PGMILL_VERSION : NULL;

    if (view == ADMIN_QUEUES)
        return db_query(db, &queue_page, page, ret_rows, NULL, ret_error);
    return db_query(db, &views[view], &none, ret_rows, NULL, ret_error);
}

int admin_queue(Db *db, const char *name, DbCallback callback, void *userdata) {
    return db_call(db, &views[ADMIN_QUEUES], &name, callback, userdata);
}

int admin_queues(Db *db, const char *after, unsigned limit, DbCallback callback, void *userdata) {
    char size[16];

    (void) snprintf(size, sizeof(size), "%u", limit);
    return db_call(db, &queue_page, (const char *[]){ after, size }, callback, userdata);
}

int admin_queue_delete(Db *db, const char *name, DbCallback callback, void *userdata) {
    static const DbStatement statement = {
        .name = "delete_queue", .sql = "SELECT verdict, shown FROM pgmill.delete_queue($1)", .params = 1
    };
    return db_call(db, &statement, &name, callback, userdata);
}

int admin_queue_put(
    Db *db, const char *name, bool paused, int max_running, DbCallback callback, void *userdata) {
    static const DbStatement statement = {
        .name = "put_queue", .sql = "SELECT verdict, shown FROM pgmill.put_queue($1, $2, $3)", .params = 3
    };
    char limit[16];

    (void) snprintf(limit, sizeof(limit), "%d", max_running);
    const char *params[] = { name, paused ? "t" : "f", max_running < 0 ? NULL : limit };
    return db_call(db, &statement, params, callback, userdata);
}

int admin_queue_change(Db *db, const char *name, const char *settings, DbCallback callback, void *userdata) {
    static const DbStatement statement = {
        .name = "change_queue", .sql = "SELECT verdict, shown FROM pgmill.change_queue($1, $2)", .params = 2
    };
    return db_call(db, &statement, (const char *[]){ name, settings }, callback, userdata);
}

int admin_queue_pause(Db *db, const char *name, bool paused, DbCallback callback, void *userdata) {
    static const DbStatement statement = {
        .name = "pause_queue", .sql = "SELECT verdict, shown FROM pgmill.pause_queue($1, $2)", .params = 2
    };
    return db_call(db, &statement, (const char *[]){ name, paused ? "t" : "f" }, callback, userdata);
}

int admin_workers(Db *db, const Id *worker, DbCallback callback, void *userdata) {
    return db_call(
        db, &views[ADMIN_WORKERS], (const char *[]){ worker ? ID_TEXT(*worker) : NULL }, callback, userdata);
}

int admin_worker_quiet(Db *db, Id worker, DbCallback callback, void *userdata) {
    static const DbStatement statement = {
        .name = "quiet", .sql = "SELECT verdict, shown FROM pgmill.quiet($1)", .params = 1
    };
    return db_call(db, &statement, (const char *[]){ ID_TEXT(worker) }, callback, userdata);
}

int admin_stats(Db *db, DbCallback callback, void *userdata) {
    return db_call(db, &views[ADMIN_STATS], (const char *[]){ PGMILL_VERSION }, callback, userdata);
}

int admin_metrics(Db *db, DbCallback callback, void *userdata) {
    static const DbStatement statement = {
        .name = "metrics", .sql = "SELECT metric, labels, value FROM pgmill.metrics($1)", .params = 1
    };
    return db_call(db, &statement, (const char *[]){ PGMILL_VERSION }, callback, userdata);
}
