/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Submissions that cannot join a group: those with an Idempotency-Key or a unique_key, which may have to wait for
 * another session, and POST /api/tasks/bulk, which is all or nothing.
 */
#include "api/context.h"
#include "api/envelope.h"

void keyed_post_bulk(Api *api, HttpRequest *r, const char *capture);

/* Is this one of them? */
bool keyed_is(HttpRequest *r, const TaskNew *task);
/* Takes task over, answers as submit_post() would. body: all of it, which the key stands for. */
void keyed_post(Api *api, HttpRequest *r, TaskNew *task, const char *body, size_t len);
