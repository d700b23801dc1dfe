/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What clients are told about a task, whichever way they asked.
 */
#include "api/fields.h"
#include "api/http.h"
#include "store/task.h"

/* For every route with an {id} in its path: false if it is no UUID; then r is answered, 422. */
bool answer_id(HttpRequest *r, const char *capture, Id *ret);

/* The task in a row of TASK columns, from column `first` on. */
void answer_task(HttpRequest *r, unsigned status, const DbRows *rows, size_t row, unsigned first);
void answer_missing(HttpRequest *r, Id id); /* 404 */

/* 201 with Location and the task in such a row, as a read would print it; rows NULL: with its id alone. 200 and
 * Idempotency-Replayed if it was stored by an earlier request. warning: the member of that name; NULL: none. */
void answer_stored(HttpRequest *r, Id id, bool replayed, const DbRows *rows, size_t row, unsigned first,
    const char *warning);

/* A submission that is not stored: what envelope_parse() complained of; what the database refused. */
void answer_complaints(HttpRequest *r, int outcome, const Fields *complaints);
void answer_refused(HttpRequest *r, const DbReply *reply);
void answer_lost(HttpRequest *r); /* nobody knows whether it is stored */

/* A request to pause a running task that will not be paused any more. status: what the task is now. */
void answer_not_paused(HttpRequest *r, const char *status);
