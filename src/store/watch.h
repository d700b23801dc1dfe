/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Watching tasks change (sql/functions/watch.sql). While a lease lives, every transition is told on WATCH_CHANNEL: the
 * payload is a JSON array of {"id","queue","name","status","at"}. With no lease it costs nothing, so begin only
 * when somebody reads. What changed while there was no lease was not told.
 */
#include "base/id.h"
#include "store/db.h"

#define WATCH_CHANNEL    "pgmill_events"
#define WATCH_LEASE_USEC (15 * USEC_PER_SEC) /* renew it every third of that */

/* watcher: this API instance's id. This session is told from now on (its DbEvents.notified). Begin anew on a new
 * session. One row: boolean; renew: false if the lease had run out in between, so that changes may have been missed. */
int watch_begin(Db *db, Id watcher, DbCallback callback, void *userdata);
int watch_renew(Db *db, Id watcher, DbCallback callback, void *userdata);
int watch_end(Db *db, Id watcher, DbCallback callback, void *userdata);
