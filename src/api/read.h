/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * GET /api/tasks/{id}, which may wait for its end, and …/log.
 */
#include "api/context.h"

extern const GroupOps read_ops;

void read_get(Api *api, HttpRequest *r, const char *capture);
void read_log(Api *api, HttpRequest *r, const char *capture);

/* For every route with an {id} in its path: false if it is no UUID; then r is answered, 422. */
bool read_id(HttpRequest *r, const char *capture, Id *ret);

/* The task in a row of TASK columns. */
void read_answer(HttpRequest *r, unsigned status, const DbRows *rows, size_t row, unsigned first);
void read_answer_missing(HttpRequest *r, Id id); /* 404 */
