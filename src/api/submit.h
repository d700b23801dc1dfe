/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * POST /api/tasks/: a task goes into the next group, and is answered when that is durable.
 */
#include "api/context.h"
#include "api/fields.h"

extern const GroupOps submit_ops, submit_stored_ops;

/* 201 with Location and the task, as a read would print it. */
void submit_post(Api *api, HttpRequest *r, const char *capture);

/* For submissions on other ways: what envelope_parse() complained of; what the database refused. */
void submit_answer_envelope(HttpRequest *r, int outcome, const Fields *complaints);
void submit_answer_refused(HttpRequest *r, const DbReply *reply);

/* It is stored: reads it and answers 201, or 200 with Idempotency-Replayed if it was so before. */
void submit_answer_stored(Api *api, HttpRequest *r, Id id, bool replayed);
