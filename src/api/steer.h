/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * PATCH /api/tasks/{id}/pause and …/resume: what an operator does to one task.
 */
#include "api/context.h"

void steer_pause(Api *api, HttpRequest *r, const char *capture);
void steer_resume(Api *api, HttpRequest *r, const char *capture);
