/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A task's story in the log, from its claim to its end, beside what it writes to standard error. What is as it should be
 * (it began, it completed) is told of STORY_BURST tasks in a second at most, so that a fast queue does not fill the
 * journal; the rest always.
 */
#include "worker/run.h"

#define STORY_BURST 100

void story_began(Run *run);
void story_frozen(const Run *run); /* or thawed, as run->frozen says */
void story_stuck(const Run *run, int error);
void story_left(const Run *run, const char *names); /* of what its program left running */
void story_cancelled(const Run *run);
/* What became of it, once that is in the database. */
void story_ended(const Run *run);
