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
