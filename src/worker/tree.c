/* SPDX-License-Identifier: MIT */
#include "worker/tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define PASSES_MAX 100 /* over a tree that goes on growing while it is stopped */

typedef struct Pids {
    pid_t *list;
    size_t n, size;
} Pids;

static void pids_done(Pids *p) {
    free(p->list);
}

static int pids_add(Pids *p, pid_t pid) {
    if (p->n == p->size) {
        size_t size = p->size ? 2 * p->size : 64;
        pid_t *list = reallocarray(p->list, size, sizeof(pid_t));
        if (!list)
            return -ENOMEM;
        p->list = list;
        p->size = size;
    }
    p->list[p->n++] = pid;
    return 0;
}

int tree_adopt(void) {
    return prctl(PR_SET_CHILD_SUBREAPER, 1) < 0 ? -errno : 0;
}

uint64_t tree_memory(pid_t root) {
    unsigned long pages = 0;
    char path[40];

    (void) snprintf(path, sizeof(path), "/proc/%d/statm", root);
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    if (fscanf(f, "%*u %lu", &pages) != 1)
        pages = 0;
    (void) fclose(f);
    return (uint64_t) pages * (uint64_t) sysconf(_SC_PAGESIZE);
}

/* proc(5): /proc/PID/task/TID/children; children belong to the thread that made them. */
static void add_children_of(Pids *p, const char *tasks, const char *tid) {
    char path[96];
    int pid;

    (void) snprintf(path, sizeof(path), "%s/%.16s/children", tasks, tid);
    FILE *f = fopen(path, "re");
    if (!f)
        return; /* ended */
    while (fscanf(f, "%d", &pid) == 1)
        if (pids_add(p, pid) < 0)
            break;
    (void) fclose(f);
}

static void add_children(Pids *p, pid_t pid) {
    char tasks[40];

    (void) snprintf(tasks, sizeof(tasks), "/proc/%d/task", pid);
    DIR *dir = opendir(tasks);
    if (!dir)
        return;
    for (struct dirent *e = readdir(dir); e; e = readdir(dir))
        if (e->d_name[0] != '.')
            add_children_of(p, tasks, e->d_name);
    (void) closedir(dir);
}

/* Fields behind the name, which may hold anything: state, parent, group, session. False: there is no such process. */
static bool status_of(pid_t pid, char *ret_state, pid_t *ret_session) {
    char path[32], text[512];

    (void) snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (n <= 0)
        return false;
    text[n] = '\0';
    const char *behind = strrchr(text, ')');
    return behind && sscanf(behind + 1, " %c %*d %*d %d", ret_state, ret_session) == 2;
}

/* The whole tree, parents before their children. */
static void collect(Pids *p, pid_t root) {
    if (pids_add(p, root) < 0)
        return;
    for (size_t i = 0; i < p->n; i++)
        add_children(p, p->list[i]);
}

/* True: every one of them is stopped or has ended, or stops before it does anything more: one that vfork()ed sleeps in the
 * kernel (D) until its child executes something, and the child may be stopped before it does. */
static bool stop_all(const Pids *p) {
    bool all = true;

    for (size_t i = 0; i < p->n; i++) {
        pid_t session;
        char state;
        if (!status_of(p->list[i], &state, &session) || strchr("TtZX", state))
            continue;
        (void) kill(p->list[i], SIGSTOP);
        all &= state == 'D';
    }
    return all;
}

int tree_freeze(pid_t root) {
    /* The list of children is exact only while they hold still: until nobody new is found, twice. */
    for (unsigned quiet = 0, i = 0; i < PASSES_MAX; i++) {
        _cleanup_(pids_done) Pids p = {};
        collect(&p, root);
        quiet = stop_all(&p) ? quiet + 1 : 0;
        if (quiet == 2)
            return 0;
    }
    return 1;
}

/* Children first: a parent then finds them as it left them. */
void tree_thaw(pid_t root) {
    _cleanup_(pids_done) Pids p = {};

    collect(&p, root);
    for (size_t i = p.n; i > 0; i--)
        (void) kill(p.list[i - 1], SIGCONT);
}

void tree_kill(pid_t root) {
    _cleanup_(pids_done) Pids p = {};

    (void) tree_freeze(root); /* so that none is born meanwhile */
    collect(&p, root);
    for (size_t i = 0; i < p.n; i++)
        (void) kill(p.list[i], SIGKILL);
}

/* A child of this process that is neither a program nor of its own session. */
static bool is_adopted(pid_t pid, bool (*is_program)(pid_t pid), char *ret_state) {
    pid_t session;

    return !is_program(pid) && status_of(pid, ret_state, &session) && session != getsid(0);
}

void tree_adopted(bool (*is_program)(pid_t pid), void (*found)(pid_t pid, void *userdata), void *userdata) {
    _cleanup_(pids_done) Pids p = {};
    char state;

    add_children(&p, getpid());
    for (size_t i = 0; i < p.n; i++)
        if (is_adopted(p.list[i], is_program, &state) && state != 'Z')
            found(p.list[i], userdata);
}

/* One pass over them: kills them, and reaps those that have ended. */
static void sweep(bool (*is_program)(pid_t pid), bool *ret_found, bool *ret_left) {
    _cleanup_(pids_done) Pids p = {};

    *ret_found = *ret_left = false;
    add_children(&p, getpid());
    for (size_t i = 0; i < p.n; i++) {
        char state;
        if (!is_adopted(p.list[i], is_program, &state))
            continue;
        if (state != 'Z')
            tree_kill(p.list[i]);
        *ret_found = true;
        *ret_left |= waitpid(p.list[i], NULL, WNOHANG) == 0;
    }
}

int tree_sweep(bool (*is_program)(pid_t pid)) {
    bool found = true, left = false;

    /* What has ended may have left a child, which came here after the list was read: until nobody is found. */
    for (unsigned i = 0; i < PASSES_MAX && found && !left; i++)
        sweep(is_program, &found, &left);
    return found;
}
