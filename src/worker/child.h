/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What a program is given by the worker that starts it, and the way from fork(2) or clone(2) to execve(2). Manuals:
 * signal-safety(7), execve(2), PR_SET_PDEATHSIG(2const).
 */
#include "base/util.h"

typedef struct Child {
    char *const *argv, *const *environment;
    const int *stdio;   /* three, to become 0, 1 and 2 */
    const char *folder; /* to work in */
    int error_fd;       /* is told the errno of what failed, as an int; close-on-exec */
    pid_t parent;       /* the program ends with it */
    int cgroup;         /* to move to; -EBADF: it is there already, or there is none */
    bool adopt;         /* it becomes its descendants' reaper, as tree.h has it */
} Child;

/* added: "NAME=value", NULL-terminated, or NULL. Free *ret also on error, with child_environment_freep(). -ENOMEM. */
int child_environment(char *const *added, const char *folder, char ***ret);
void child_environment_freep(char ***list);

/* In the child, of a process with any number of threads: async-signal-safe calls only. */
_Noreturn void child_exec(const Child *c);
