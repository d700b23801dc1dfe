/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * GET /api/tasks/: a page of tasks, newest first.
 */
#include "api/context.h"

void list_get(Api *api, HttpRequest *r, const char *capture);
