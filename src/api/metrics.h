/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * GET /metrics: Prometheus text format 0.0.4. What the database says is kept for 5 seconds, so that any number of
 * scrapers costs it the same.
 */
#include "api/context.h"

typedef struct Metrics Metrics;

int metrics_new(Metrics **ret);
Metrics *metrics_free(Metrics *m);

void metrics_get(Api *api, HttpRequest *r, const char *capture);
