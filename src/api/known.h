/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the database said of a queue and a name, for a second: that the queue exists, and whether a living worker takes
 * such tasks. Submissions that come within it ask for neither. One memory a process, of bounded size.
 */
#include "store/task.h"

/* Fills warning of a task that is to be submitted, or, when nothing is known, maker and queues_max: the database is to be
 * asked. -ENOMEM. */
int known_look(TaskNew *task, const char *maker, unsigned queues_max);

/* The database was asked; warning: NULL for none. */
void known_add(const TaskNew *task, const char *warning);
