/* SPDX-License-Identifier: MIT */
#include "worker/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#define DEPTH_MAX 16 /* of groups that a program made within its own */

static const char *const controller_names[_CGROUP_CONTROLLER_MAX] = {
    [CGROUP_CPU] = "cpu",
    [CGROUP_MEMORY] = "memory",
    [CGROUP_PIDS] = "pids",
};

const char *cgroup_controller_to_string(CgroupController c) {
    return controller_names[c];
}

/* ---- files ---- */

static int file_write(int dir, const char *name, const char *value) {
    _cleanup_(closep) int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    return write(fd, value, strlen(value)) < 0 ? -errno : 0;
}

/* A small file, whole and NUL-terminated. */
static int fd_read(int fd, char *buf, size_t size) {
    ssize_t n = pread(fd, buf, size - 1, 0);

    if (n < 0)
        return -errno;
    buf[n] = '\0';
    return 0;
}

static int file_read(int dir, const char *name, char *buf, size_t size) {
    _cleanup_(closep) int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);

    return fd < 0 ? -errno : fd_read(fd, buf, size);
}

/* The number behind a key at the start of a line; key NULL: the file's only number. */
static int64_t number_of(const char *text, const char *key) {
    size_t n = key ? strlen(key) : 0;

    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (!key || (strncmp(line, key, n) == 0 && line[n] == ' '))
            return strtoll(line + n, NULL, 10);
    }
    return -1;
}

static int64_t file_number(int dir, const char *name, const char *key) {
    char text[2048];

    return file_read(dir, name, text, sizeof(text)) < 0 ? -1 : number_of(text, key);
}

static bool has_word(const char *text, const char *word) {
    size_t n = strlen(word);

    for (const char *p = strstr(text, word); p; p = strstr(p + n, word))
        if ((p == text || strchr(" \n", p[-1])) && strchr(" \n", p[n]))
            return true;
    return false;
}

/* ---- the delegated subtree ---- */

/* Where cgroup2 is mounted, and which group is seen there. "36 35 0:30 ROOT POINT options - cgroup2 …" */
static int find_mount(char **ret_point, char **ret_root) {
    FILE *f = fopen("/proc/self/mountinfo", "re");
    _cleanup_(freep) char *line = NULL, *point = NULL, *root = NULL;
    size_t size = 0;
    int r = -ENOENT;

    if (!f)
        return -errno;
    while (r == -ENOENT && getline(&line, &size, f) > 0) {
        if (!strstr(line, " - cgroup2 "))
            continue;
        free(root);
        free(point);
        root = point = NULL;
        r = sscanf(line, "%*s %*s %*s %ms %ms", &root, &point) == 2 ? 0 : -ENOENT;
    }
    (void) fclose(f);
    if (r < 0)
        return r;
    *ret_point = TAKE_PTR(point);
    *ret_root = TAKE_PTR(root);
    return 0;
}

/* This process's own group, as a path below the mount's root. */
static int find_own(char **ret) {
    FILE *f = fopen("/proc/self/cgroup", "re");
    _cleanup_(freep) char *line = NULL;
    size_t size = 0;
    int r = -ENOENT;

    if (!f)
        return -errno;
    while (r == -ENOENT && getline(&line, &size, f) > 0)
        if (strncmp(line, "0::/", 4) == 0) {
            line[strcspn(line, "\n")] = '\0';
            r = string_replace(ret, line + 3);
        }
    (void) fclose(f);
    return r;
}

/* The folder of the group that is to be this worker's subtree: its own, or the one above when it is in the leaf. */
static int find_subtree(char **ret) {
    _cleanup_(freep) char *point = NULL, *root = NULL, *own = NULL;
    int r = find_mount(&point, &root);
    if (r >= 0)
        r = find_own(&own);
    if (r < 0)
        return r;
    size_t n = streq(root, "/") ? 0 : strlen(root);
    if (strncmp(own, root, n) != 0 || strstr(own, "/.."))
        return -ENOENT; /* not to be seen from here */
    char *leaf = strrchr(own, '/');
    if (streq(leaf + 1, CGROUP_LEAF))
        *leaf = '\0';
    if (streq(own + n, "/") || streq(own + n, ""))
        return -EREMOTE;
    return string_printf(ret, "%s%s", point, own + n);
}

static int move_self_to_leaf(int fd) {
    if (mkdirat(fd, CGROUP_LEAF, 0755) < 0 && errno != EEXIST)
        return -errno;
    return file_write(fd, CGROUP_LEAF "/cgroup.procs", "0");
}

/* One by one: a controller that is missing must not keep the others away. */
static int enable_controllers(CgroupTree *t) {
    char there[512], word[32];

    int r = file_read(t->fd, "cgroup.controllers", there, sizeof(there));
    for (CgroupController c = 0; r >= 0 && c < _CGROUP_CONTROLLER_MAX; c++) {
        (void) snprintf(word, sizeof(word), "+%s", controller_names[c]);
        t->has[c] =
            has_word(there, controller_names[c]) && file_write(t->fd, "cgroup.subtree_control", word) >= 0;
    }
    return r;
}

/* Nothing but this process, if at all: else it is a group that others use too. */
static int check_alone(int fd, const char *procs) {
    char text[64];

    int r = file_read(fd, procs, text, sizeof(text));
    if (r < 0)
        return r;
    return *text == '\0' ||
                   (number_of(text, NULL) == getpid() && streq(text + strspn(text, "0123456789"), "\n"))
               ? 0
               : -EBUSY;
}

int cgroup_tree_open(CgroupTree *ret) {
    _cleanup_(cgroup_tree_done) CgroupTree t = { .fd = -EBADF };

    int r = find_subtree(&t.path);
    if (r < 0)
        return r;
    t.fd = open(t.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (t.fd < 0)
        return -errno;
    r = check_alone(t.fd, "cgroup.procs");
    if (r >= 0)
        r = move_self_to_leaf(t.fd);
    if (r >= 0)
        r = enable_controllers(&t);
    if (r < 0)
        return r;
    *ret = t;
    t = (CgroupTree){ .fd = -EBADF };
    return 0;
}

bool cgroup_tree_alone(const CgroupTree *t) {
    return check_alone(t->fd, CGROUP_LEAF "/cgroup.procs") >= 0 && check_alone(t->fd, "cgroup.procs") >= 0;
}

int cgroup_tree_identity(const CgroupTree *t, char **ret) {
    struct stat ns;

    if (stat("/proc/self/ns/cgroup", &ns) < 0)
        return -errno;
    return string_printf(ret, "%ju %s", (uintmax_t) ns.st_ino, t->path);
}

void cgroup_tree_done(CgroupTree *t) {
    t->fd = close_fd(t->fd);
    t->path = (free(t->path), NULL);
}

/* ---- one group ---- */

static int limit(int fd, const char *name, uint64_t value) {
    char text[24];

    if (value == UINT64_MAX)
        return 0;
    (void) snprintf(text, sizeof(text), "%" PRIu64, value);
    return file_write(fd, name, text);
}

static int quota(int fd, uint64_t percent) {
    char text[48];

    if (percent == UINT64_MAX)
        return 0;
    (void) snprintf(text, sizeof(text), "%" PRIu64 " 100000", percent * 1000);
    return file_write(fd, "cpu.max", text);
}

/* Killed as a whole, and never by way of swapping for minutes. A kernel without swap accounting has no such file. */
static int memory_limits(int fd, const CgroupLimits *limits) {
    int r = limit(fd, "memory.high", limits->memory_high);

    if (r < 0 || limits->memory_max == UINT64_MAX)
        return r;
    r = limit(fd, "memory.max", limits->memory_max);
    if (r >= 0)
        r = file_write(fd, "memory.oom.group", "1");
    if (r < 0)
        return r;
    r = file_write(fd, "memory.swap.max", "0");
    return r == -ENOENT ? 0 : r;
}

int cgroup_set_limits(int fd, const CgroupLimits *limits, const bool has[static _CGROUP_CONTROLLER_MAX]) {
    int r = has[CGROUP_MEMORY] ? memory_limits(fd, limits) : 0;

    if (r >= 0 && has[CGROUP_PIDS])
        r = limit(fd, "pids.max", limits->tasks_max);
    if (r >= 0 && has[CGROUP_CPU] && limits->cpu_weight != CGROUP_WEIGHT_DEFAULT)
        r = limit(fd, "cpu.weight", limits->cpu_weight);
    if (r >= 0 && has[CGROUP_CPU])
        r = quota(fd, limits->cpu_quota);
    return r;
}

int cgroup_new(const CgroupTree *t, const char *name, const CgroupLimits *limits, int *ret_fd) {
    if (mkdirat(t->fd, name, 0755) < 0)
        return -errno;
    int fd = openat(t->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = fd < 0 ? -errno : limits ? cgroup_set_limits(fd, limits, t->has) : 0;
    if (r < 0) {
        (void) close_fd(fd);
        (void) cgroup_remove(t, name);
        return r;
    }
    *ret_fd = fd;
    return 0;
}

/* A program may have made groups within its own. */
static int remove_below(int parent, const char *name, unsigned depth) {
    if (unlinkat(parent, name, AT_REMOVEDIR) >= 0 || errno == ENOENT)
        return 0;
    if (errno != EBUSY || depth == 0)
        return -errno;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        int r = -errno;
        (void) close_fd(fd);
        return r;
    }
    for (struct dirent *e = readdir(dir); e; e = readdir(dir))
        if (e->d_type == DT_DIR && !streq(e->d_name, ".") && !streq(e->d_name, ".."))
            (void) remove_below(fd, e->d_name, depth - 1);
    (void) closedir(dir);
    return unlinkat(parent, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

int cgroup_enter(int fd) {
    return file_write(fd, "cgroup.procs", "0");
}

int cgroup_remove(const CgroupTree *t, const char *name) {
    return remove_below(t->fd, name, DEPTH_MAX);
}

int cgroup_freeze(int fd, bool freeze) {
    return file_write(fd, "cgroup.freeze", freeze ? "1" : "0");
}

int cgroup_kill(int fd) {
    return file_write(fd, "cgroup.kill", "1");
}

int cgroup_open_state(int fd) {
    int state = openat(fd, "cgroup.events", O_RDONLY | O_CLOEXEC);

    return state < 0 ? -errno : state;
}

int cgroup_state(int state_fd, bool *ret_populated, bool *ret_frozen) {
    char text[128];

    int r = fd_read(state_fd, text, sizeof(text));
    if (r < 0)
        return r;
    *ret_populated = number_of(text, "populated") > 0;
    *ret_frozen = number_of(text, "frozen") > 0;
    return 0;
}

void cgroup_members(int fd, void (*found)(pid_t pid, void *userdata), void *userdata) {
    int procs = openat(fd, "cgroup.procs", O_RDONLY | O_CLOEXEC), pid;
    FILE *f = procs < 0 ? NULL : fdopen(procs, "r");

    if (!f)
        (void) close_fd(procs);
    while (f && fscanf(f, "%d", &pid) == 1)
        found(pid, userdata);
    if (f)
        (void) fclose(f);
}

void cgroup_usage(int fd, CgroupUsage *ret) {
    *ret = (CgroupUsage){
        .cpu_usec = file_number(fd, "cpu.stat", "usage_usec"),
        .memory_peak = file_number(fd, "memory.peak", NULL),
        .oom = file_number(fd, "memory.events", "oom_kill") > 0,
        .tasks_refused = file_number(fd, "pids.events", "max") > 0,
    };
}

int64_t cgroup_memory(int fd) {
    return file_number(fd, "memory.current", NULL);
}

/* ---- what a predecessor left ---- */

static int clear_one(const CgroupTree *t, const char *name) {
    _cleanup_(closep) int fd = openat(t->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    int r = cgroup_kill(fd);
    return r < 0 ? r : cgroup_remove(t, name);
}

int cgroup_tree_clear(const CgroupTree *t) {
    int copy = openat(t->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    int r = 0;

    if (!dir) {
        r = -errno;
        (void) close_fd(copy);
        return r;
    }
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        if (e->d_type != DT_DIR || e->d_name[0] == '.' || streq(e->d_name, CGROUP_LEAF))
            continue;
        int one = clear_one(t, e->d_name);
        r = one < 0 ? one : r;
    }
    (void) closedir(dir);
    return r;
}
