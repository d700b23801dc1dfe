/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The API role: HTTP in, one store call, HTTP out.
 */
#include "base/verb.h"

extern const Verb api_verb;     /* pgmill api */
extern const Verb openapi_verb; /* pgmill openapi */
extern const Verb token_verb;   /* pgmill token */
