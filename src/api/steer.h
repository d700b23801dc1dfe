/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * PATCH /api/tasks/{id}/pause, …/resume, …/cancel and …/retry: what an operator does to one task.
 */
#include "api/context.h"

void steer_pause(Api *api, HttpRequest *r, const char *capture);
void steer_resume(Api *api, HttpRequest *r, const char *capture);
void steer_cancel(Api *api, HttpRequest *r, const char *capture);
void steer_retry(Api *api, HttpRequest *r, const char *capture);

/* For calls that need no body: false if there is one that says something; then r is answered. */
bool steer_body_is_empty(HttpRequest *r);
