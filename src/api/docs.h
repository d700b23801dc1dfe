/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The API's description, and the page that shows it in a browser. Both are compiled in: see web/.
 */
#include "api/context.h"

void docs_description(Api *api, HttpRequest *r, const char *capture); /* GET /openapi.json */
void docs_page(Api *api, HttpRequest *r, const char *capture);        /* GET /docs */
void docs_script(Api *api, HttpRequest *r, const char *capture);      /* GET /docs/rapidoc.js */
