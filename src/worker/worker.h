/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The worker role: claim, run, finish.
 */
#include "base/verb.h"

extern const Verb worker_verb;   /* pgmill worker */
extern const Verb handlers_verb; /* pgmill handlers */
