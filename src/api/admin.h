/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Queues, workers and figures. The database makes each answer as JSON; here they are asked for and passed on.
 */
#include "api/context.h"

void admin_queue_list(Api *api, HttpRequest *r, const char *capture);
void admin_queue_get(Api *api, HttpRequest *r, const char *capture);
void admin_queue_set(Api *api, HttpRequest *r, const char *capture);    /* PUT */
void admin_queue_remove(Api *api, HttpRequest *r, const char *capture); /* DELETE */
void admin_queue_hold(Api *api, HttpRequest *r, const char *capture);   /* pause */
void admin_queue_open(Api *api, HttpRequest *r, const char *capture);   /* resume */
void admin_queue_alter(Api *api, HttpRequest *r, const char *capture);  /* PATCH */
void admin_worker_list(Api *api, HttpRequest *r, const char *capture);
void admin_worker_silence(Api *api, HttpRequest *r, const char *capture); /* quiet */
void admin_figures(Api *api, HttpRequest *r, const char *capture);        /* /api/stats */
