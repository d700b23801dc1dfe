/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * POST /api/tasks/: a task goes into the next group, and is answered when that is durable.
 */
#include "api/context.h"
#include "api/fields.h"

extern const GroupOps submit_ops;

/* 201 with Location and the task, as a read would print it. */
void submit_post(Api *api, HttpRequest *r, const char *capture);

/* For submissions on other ways: what envelope_parse() complained of; what the database refused. */
void submit_answer_envelope(HttpRequest *r, int outcome, const Fields *complaints);
void submit_answer_refused(HttpRequest *r, const DbReply *reply);
void submit_answer_lost(HttpRequest *r); /* nobody knows whether it is stored */

/* 201 with the TASK columns of the first row, from column `first` on; rows NULL: with its id alone. 200 and
 * Idempotency-Replayed if it was stored by an earlier request. */
void submit_answer_stored(HttpRequest *r, Id id, bool replayed, const DbRows *rows, unsigned first);
