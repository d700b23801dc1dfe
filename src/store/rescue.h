/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The rescuer that API and workers run: gives the tasks of dead workers back after their grace period.
 * A worker is dead when its session lock is free and its heartbeat has not changed for a whole grace period, on
 * this process's clock and within one database session (sql/functions/workers.sql).
 */
#include "store/db.h"

typedef struct Rescuer Rescuer;

/* Looks every 2 s, jittered, while db is connected, and does a round of house-keeping (pgmill.tidy) every 10 s. Call rescuer_reset() from the connection's lost event. */
int rescuer_new(Rescuer **ret, sd_event *event, Db *db);
void rescuer_reset(Rescuer *r);
Rescuer *rescuer_free(Rescuer *r);
void rescuer_freep(Rescuer **r);
