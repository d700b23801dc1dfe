/* SPDX-License-Identifier: MIT */
#include "store/watch.h"

int watch_begin(Db *db, Id watcher, DbCallback callback, void *userdata) {
    static const DbStatement statement = { .name = "watch", .sql = "SELECT pgmill.watch($1)", .params = 1 };
    return db_call(db, &statement, (const char *[]){ ID_TEXT(watcher) }, callback, userdata);
}

int watch_renew(Db *db, Id watcher, DbCallback callback, void *userdata) {
    static const DbStatement statement = {
        .name = "watch_on", .sql = "SELECT pgmill.watch_on($1)", .params = 1
    };
    return db_call(db, &statement, (const char *[]){ ID_TEXT(watcher) }, callback, userdata);
}

int watch_end(Db *db, Id watcher, DbCallback callback, void *userdata) {
    static const DbStatement statement = {
        .name = "watch_end", .sql = "SELECT pgmill.watch_end($1)", .params = 1
    };
    return db_call(db, &statement, (const char *[]){ ID_TEXT(watcher) }, callback, userdata);
}
