/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Being told of changes (sql/functions/watch.sql): a lease of 15 s, without which not one notification is made.
 * The session then gets notifications on the channel "pgmill_events": JSON arrays of {"id", "queue", "name", "status",
 * "at"}, one object a change.
 */
#include "base/id.h"
#include "store/db.h"

/* One row: boolean; of watch_renew(), false: the lease had run out, and something may have been missed. */
int watch_begin(Db *db, Id watcher, DbCallback callback, void *userdata);
int watch_renew(Db *db, Id watcher, DbCallback callback, void *userdata);
int watch_end(Db *db, Id watcher, DbCallback callback, void *userdata);
