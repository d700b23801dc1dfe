/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Descendants of a process, for hosts where the worker has no cgroup of its own. Every program that is started, and
 * the worker itself, is a subreaper (prctl(2)): while a program lives, what it starts stays below it, also after a
 * double fork; when it has ended, what it left becomes the worker's child, and leads or belongs to another session
 * than the worker. So nothing can hide, but what another daemon was asked to start.
 */
#include <sys/types.h>

#include "base/util.h"

int tree_adopt(void); /* this process adopts orphans of its descendants; async-signal-safe */

/* Sends SIGSTOP or SIGCONT to root and all below it. 1: some are not stopped yet, ask again soon; 0: done. */
int tree_freeze(pid_t root);
void tree_thaw(pid_t root);
uint64_t tree_memory(pid_t root); /* bytes of root itself in memory; 0: it has ended */
void tree_kill(pid_t root);       /* SIGKILL, to those below it too */

/*
 * Kills and reaps the adopted children: those of another session that are none of the programs. 1: some of them have
 * not ended yet, ask again soon; 0: none is left.
 */
int tree_sweep(bool (*is_program)(pid_t pid));
/* Tells of each of them that has not ended. */
void tree_adopted(bool (*is_program)(pid_t pid), void (*found)(pid_t pid, void *userdata), void *userdata);
