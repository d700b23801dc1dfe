/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * cgroup v2, as Documentation/admin-guide/cgroup-v2.rst of the kernel describes it, and the only file that writes
 * there. A worker with a subtree of its own (Delegate=yes) sits in the leaf CGROUP_LEAF of it and gives every program
 * a group beside that leaf.
 */
#include "base/util.h"

#define CGROUP_LEAF           "worker" /* units with DelegateSubgroup= name the same */
#define CGROUP_WEIGHT_DEFAULT 100

/* Of a handler file; UINT64_MAX: none. */
typedef struct CgroupLimits {
    uint64_t memory_max;  /* bytes, swap included; beyond it the whole group is killed */
    uint64_t memory_high; /* bytes; beyond it, it is slowed down */
    uint64_t tasks_max;   /* processes and threads */
    uint64_t cpu_weight;  /* 1 to 10000, CGROUP_WEIGHT_DEFAULT where nobody says */
    uint64_t cpu_quota;   /* percent of one processor */
} CgroupLimits;

/* What a program and its descendants took; < 0: not known. */
typedef struct CgroupUsage {
    int64_t cpu_usec;
    int64_t memory_peak; /* bytes; without the memory controller, of its largest process */
    bool oom;            /* memory ran out, and the kernel killed it for that */
    bool tasks_refused;  /* it wanted more processes than TasksMax= */
} CgroupUsage;

typedef enum CgroupController {
    CGROUP_CPU,
    CGROUP_MEMORY,
    CGROUP_PIDS,
    _CGROUP_CONTROLLER_MAX,
} CgroupController;

typedef struct CgroupTree {
    int fd;     /* of the delegated group */
    char *path; /* its folder */
    bool has[_CGROUP_CONTROLLER_MAX];
} CgroupTree;

const char *cgroup_controller_to_string(CgroupController c);

/*
 * Takes the delegated subtree over: moves this process, which must be alone in it, to the leaf, and enables the
 * controllers there are for the groups beside it. -ENOENT: no cgroup2 is mounted; -EREMOTE: this process is in the
 * root group; -EBUSY: other processes are in its group; -EACCES, -EPERM, -EROFS: it may not write there.
 */
int cgroup_tree_open(CgroupTree *ret);
void cgroup_tree_done(CgroupTree *t);

/* Nothing but this process is left in the subtree, once cgroup_tree_clear() has answered 0. */
bool cgroup_tree_alone(const CgroupTree *t);
/* What only a process in the same place of the same tree shares with this one, while the system is up. */
int cgroup_tree_identity(const CgroupTree *t, char **ret);

/* Kills and removes every group a predecessor left beside the leaf. 0: nothing is left; -EBUSY: look again soon. */
int cgroup_tree_clear(const CgroupTree *t);

/* A group for one program. *ret_fd is its folder. A limit whose controller is missing is not set. */
int cgroup_new(const CgroupTree *t, const char *name, const CgroupLimits *limits, int *ret_fd);
int cgroup_set_limits(int fd, const CgroupLimits *limits, const bool has[static _CGROUP_CONTROLLER_MAX]);

/* Moves this process there: for a fork() that clone3() could not start in place. */
int cgroup_enter(int fd);

/* Frees the name. -EBUSY: something runs in it. */
int cgroup_remove(const CgroupTree *t, const char *name);

int cgroup_freeze(int fd, bool freeze); /* takes effect a little later: cgroup_state() */
int cgroup_kill(int fd);                /* everything in it, frozen or not */

/* A descriptor that polls with EPOLLPRI when the state has changed since it was last read with cgroup_state(). */
int cgroup_open_state(int fd);
int cgroup_state(int state_fd, bool *ret_populated, bool *ret_frozen);

/* Tells of each process in it; those in groups below it left out. */
void cgroup_members(int fd, void (*found)(pid_t pid, void *userdata), void *userdata);

void cgroup_usage(int fd, CgroupUsage *ret);
int64_t cgroup_memory(int fd); /* bytes that it takes now; < 0: not known */
