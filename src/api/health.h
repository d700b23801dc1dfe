/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The probes.
 */
#include "api/context.h"

void health_live(Api *api, HttpRequest *r, const char *capture); /* 200 as long as the loop turns */
void health_ready(
    Api *api, HttpRequest *r, const char *capture); /* 200 when tasks can be submitted and read; 503 */
