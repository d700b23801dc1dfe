/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * GET /api/tasks/{id}, which may wait for its end, and …/log.
 */
#include "api/context.h"

extern const GroupOps read_ops;

void read_get(Api *api, HttpRequest *r, const char *capture);
void read_log(Api *api, HttpRequest *r, const char *capture);
