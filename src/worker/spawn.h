/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The one way to start a program: clean environment, no inherited descriptors, a session and a working folder of its
 * own, and, where the worker has a delegated cgroup, a cgroup of its own; else its descendants are followed as a
 * tree (tree.h). Knows nothing of tasks. Manuals: clone(2), pidfd_open(2), cgroups(7).
 *
 * The program is given PATH, LANG and what spec->environment adds, HOME, LOGNAME, USER and TZ where the worker has
 * them, and PGMILL_DIRECTORY and TMPDIR: its working folder, mode 0700, which is removed after it with all that is
 * in it.
 */
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "base/util.h"
#include "worker/cgroup.h"

#define SPAWN_DESCRIPTORS 8 /* open at most while one program runs, its starting included */

typedef struct Spawned Spawned;

typedef struct SpawnSpec {
    const char *name;  /* of its folder and its cgroup: a file name, unique among what runs in this worker */
    char *const *argv; /* argv[0]: an absolute path */
    char *const *environment;   /* "NAME=value", NULL-terminated, or NULL; nothing twice */
    int stdio[3];               /* become its 0, 1, 2; close-on-exec, and the caller's to close */
    const CgroupLimits *limits; /* NULL: none */
} SpawnSpec;

typedef struct SpawnEnd {
    int start_error;  /* errno: it could not be executed; then code and status mean nothing */
    int code, status; /* CLD_EXITED and the exit status, or CLD_KILLED / CLD_DUMPED and the signal */
    CgroupUsage usage;
    const char *
        left; /* names of what it had left running, which was killed; NULL: nothing, or it was killed itself */
} SpawnEnd;

typedef struct SpawnEvents {
    /* It has ended, and nothing that it started runs any more. Exactly once; spawn_free() may be called in it. */
    void (*ended)(Spawned *s, const SpawnEnd *end, void *userdata);
    /* As spawn_freeze() asked; also false when a stop thawed it. NULL: nobody wants to know. */
    void (*frozen)(Spawned *s, bool frozen, void *userdata);
} SpawnEvents;

/*
 * Once, before any program and any other child: finds the delegated cgroup and moves this process to a leaf of it.
 * Logs once what is missing on this host. -ENOMEM.
 */
int spawn_setup(void);
void spawn_done(void); /* after the last program */

/* Nothing that a predecessor started, nor it itself, was left in the delegated cgroup after spawn_setup(). */
bool spawn_was_sole(void);
/* Of the delegated cgroup, as cgroup_tree_identity(); -ENOENT: there is none. */
int spawn_identity(char **ret);

/* Errors: negative errno, and nothing runs. */
int spawn_start(
    Spawned **ret, sd_event *event, const SpawnSpec *spec, const SpawnEvents *events, void *userdata);

/* ask: SIGTERM to its process group (a frozen one is thawed for it); else everything is killed, frozen or not. */
void spawn_stop(Spawned *s, bool ask);

/* With all its descendants. events->frozen() tells when it has taken effect, from the loop or before this returns. */
int spawn_freeze(Spawned *s, bool freeze);

pid_t spawn_pid(const Spawned *s);

/* Bytes that it takes now with all that it started; without the memory controller, the program alone. 0: not known. */
uint64_t spawn_memory(const Spawned *s);

/* Returns NULL. What still runs is killed, and ended() not called. */
Spawned *spawn_free(Spawned *s);
