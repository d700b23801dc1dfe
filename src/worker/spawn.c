/* SPDX-License-Identifier: MIT */
#include "worker/spawn.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/log.h"
#include "base/timer.h"
#include "worker/child.h"
#include "worker/folder.h"
#include "worker/tree.h"

#define LOOK_FIRST_USEC (2 * USEC_PER_MSEC) /* at what gives no event, and twice as long each time … */
#define LOOK_MAX_USEC   (100 * USEC_PER_MSEC)
#define LEFT_NAMED      5  /* of the processes that a program left */
#define FREE_LOOKS      50 /* … and at most so often when the program is given up */

typedef enum Temperature { WARM, FREEZING, FROZEN } Temperature;

struct Spawned {
    Spawned *next, *previous;
    SpawnEvents events;
    void *userdata;
    sd_event *event; /* not owned */
    pid_t pid;       /* 0: reaped */
    int pidfd;
    int error_fd; /* tells the errno of a failed exec */
    sd_event_source *exit_source;

    char *name, *folder;
    int cgroup, state_fd; /* -EBADF: this worker has no cgroups */
    sd_event_source *state_source;
    sd_event_source *look_timer; /* without cgroups: when to look at the tree again */
    uint64_t look_usec;

    Temperature temperature;
    bool ended; /* and the owner was told */
    SpawnEnd end;
    Buf left; /* end.left */
    unsigned n_left;
};

static CgroupTree tree = { .fd = -EBADF };
static bool sole;
static Spawned *first;
static uint64_t count; /* of all programs so far: makes their names unique */

static bool has_cgroups(void) {
    return tree.fd >= 0;
}

/* ---- the host ---- */

static void say_missing_controllers(void) {
    static const char *const keys[_CGROUP_CONTROLLER_MAX] = {
        [CGROUP_CPU] = "CPUWeight=, CPUQuota=",
        [CGROUP_MEMORY] = "MemoryMax=, MemoryHigh=",
        [CGROUP_PIDS] = "TasksMax=",
    };

    for (CgroupController c = 0; c < _CGROUP_CONTROLLER_MAX; c++)
        if (!tree.has[c])
            log_warning("There is no cgroup controller \"%s\" here: %s of handler files have no effect",
                cgroup_controller_to_string(c), keys[c]);
}

static int clear_predecessor(void) {
    int r = cgroup_tree_clear(&tree);

    for (unsigned i = 0; r == -EBUSY && i < FREE_LOOKS; i++) {
        (void) usleep(LOOK_FIRST_USEC);
        r = cgroup_tree_clear(&tree);
    }
    return r;
}

static const char *why_no_cgroups(int r) {
    switch (r) {
    case -EREMOTE:
        return "this process is in the root cgroup";
    case -EBUSY:
        return "other processes are in this one's cgroup";
    case -ENOENT:
        return "its cgroup is not to be seen in a cgroup2 file system";
    default:
        return strerror(-r);
    }
}

int spawn_setup(void) {
    int r = cgroup_tree_open(&tree);

    if (r == -ENOMEM)
        return r;
    if (r < 0) {
        log_notice(
            "No cgroup is delegated to this worker (%s): tasks are followed as process trees, and the limits "
            "of handler files have no effect",
            why_no_cgroups(r));
        return tree_adopt();
    }
    say_missing_controllers();
    r = clear_predecessor();
    if (r < 0)
        (void) log_warning_errno(r, "Cannot remove the cgroups that were left below %s: %m", tree.path);
    sole = r >= 0 && cgroup_tree_alone(&tree);
    return 0;
}

bool spawn_was_sole(void) {
    return sole;
}

int spawn_identity(char **ret) {
    return tree.fd < 0 ? -ENOENT : cgroup_tree_identity(&tree, ret);
}

void spawn_done(void) {
    cgroup_tree_done(&tree);
    folder_done();
}

/* ---- the end ---- */

static void tell_end(Spawned *s) {
    SpawnEnd *end = &s->end;
    CgroupUsage usage = { .cpu_usec = -1, .memory_peak = -1 };

    if (read(s->error_fd, &end->start_error, sizeof(end->start_error)) != sizeof(end->start_error))
        end->start_error = 0;
    if (s->cgroup >= 0)
        cgroup_usage(s->cgroup, &usage);
    /* What the kernel counted of the process and of those it waited for is the second best. */
    if (usage.cpu_usec >= 0)
        end->usage.cpu_usec = usage.cpu_usec;
    if (usage.memory_peak >= 0)
        end->usage.memory_peak = usage.memory_peak;
    end->usage.oom = usage.oom;
    end->usage.tasks_refused = usage.tasks_refused;
    if (s->n_left > LEFT_NAMED)
        buf_printf(&s->left, " and %u more", s->n_left - LEFT_NAMED);
    end->left = buf_error(&s->left) < 0 ? NULL : s->left.data;
    s->ended = true;
    s->events.ended(s, end, s->userdata);
}

static bool is_program(pid_t pid) {
    for (Spawned *s = first; s; s = s->next)
        if (s->pid == pid)
            return true;
    return false;
}

static void on_left(pid_t pid, void *userdata) {
    char path[32], name[32] = "";
    Spawned *s = userdata;

    (void) snprintf(path, sizeof(path), "/proc/%d/comm", pid);
    _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (pid == s->pid || fd < 0 || read(fd, name, sizeof(name) - 1) <= 0)
        return;
    name[strcspn(name, "\n")] = '\0';
    if (s->n_left++ < LEFT_NAMED) {
        buf_puts(&s->left, s->n_left > 1 ? ", " : "");
        utf8_add(&s->left, name, strlen(name));
        buf_printf(&s->left, " (%d)", pid);
    }
}

/* It has ended by itself and is not yet reaped. Who stays is about to be killed, which its author may not expect. */
static void name_left(Spawned *s) {
    bool populated, frozen;

    if (s->cgroup < 0)
        tree_adopted(is_program, on_left, s);
    else if (cgroup_state(s->state_fd, &populated, &frozen) < 0 || populated)
        cgroup_members(s->cgroup, on_left, s);
}

/* The program is reaped. True: nothing that it started is left; else it was killed, and this is to be asked again. */
static bool is_empty(Spawned *s) {
    bool populated, frozen;

    if (s->cgroup < 0)
        return tree_sweep(is_program) == 0;
    if (cgroup_state(s->state_fd, &populated, &frozen) >= 0 && !populated)
        return true;
    (void) cgroup_kill(s->cgroup);
    return cgroup_state(s->state_fd, &populated, &frozen) >= 0 && !populated;
}

/* From the kernel, with the usage that wait4() would give: waitid(2) in glibc lacks it. */
static int reap(Spawned *s, bool wait) {
    struct rusage usage = {};
    siginfo_t si = {};

    /* While it is not reaped its number is nobody else's. */
    if (syscall(SYS_waitid, P_PIDFD, s->pidfd, &si, WEXITED | WNOWAIT | (wait ? 0 : WNOHANG), NULL) < 0)
        return -errno;
    if (si.si_pid == 0)
        return -EAGAIN;
    if (si.si_code == CLD_EXITED)
        name_left(s);
    (void) kill(-s->pid, SIGKILL); /* what stayed in its group */
    if (syscall(SYS_waitid, P_PIDFD, s->pidfd, &si, WEXITED, &usage) < 0)
        return -errno;
    s->pid = 0;
    s->end.code = si.si_code;
    s->end.status = si.si_status;
    s->end.usage.cpu_usec = (int64_t) (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
                            usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
    s->end.usage.memory_peak = (int64_t) usage.ru_maxrss * 1024;
    return 0;
}

static void look_later(Spawned *s) {
    (void) timer_start(s->look_timer, s->look_usec);
    s->look_usec = MIN(2 * s->look_usec, (uint64_t) LOOK_MAX_USEC);
}

/* ---- events ---- */

static void set_temperature(Spawned *s, Temperature t) {
    bool was_frozen = s->temperature != WARM, tell = t == FROZEN || (t == WARM && was_frozen);

    s->temperature = t;
    if (tell && s->events.frozen)
        s->events.frozen(s, t == FROZEN, s->userdata);
}

/* Whatever may have changed has; s may be gone behind this. */
static void look(Spawned *s) {
    bool populated, frozen;

    if (s->pid == 0) {
        if (is_empty(s))
            tell_end(s);
        else if (s->cgroup < 0)
            look_later(s);
    } else if (s->temperature == FREEZING) {
        if (s->cgroup < 0 ? tree_freeze(s->pid) == 0
                          : cgroup_state(s->state_fd, &populated, &frozen) >= 0 && frozen)
            set_temperature(s, FROZEN);
        else if (s->cgroup < 0)
            look_later(s);
    } else if (s->cgroup >= 0)
        (void) cgroup_state(s->state_fd, &populated, &frozen); /* seen: it does not poll any more */
}

static int on_exit_of(
    _unused_ sd_event_source *source, _unused_ int fd, _unused_ uint32_t revents, void *userdata) {
    Spawned *s = userdata;

    if (s->pid == 0 || reap(s, false) < 0)
        return 0;
    s->exit_source = sd_event_source_disable_unref(s->exit_source);
    s->look_usec = LOOK_FIRST_USEC;
    look(s);
    return 0;
}

static int on_state(
    _unused_ sd_event_source *source, _unused_ int fd, _unused_ uint32_t revents, void *userdata) {
    look(userdata);
    return 0;
}

static int on_look(_unused_ sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
    look(userdata);
    return 0;
}

/* ---- start ---- */

static int watch(Spawned *s) {
    int r = sd_event_add_io(s->event, &s->exit_source, s->pidfd, EPOLLIN, on_exit_of, s);

    if (r >= 0 && s->cgroup >= 0)
        r = sd_event_add_io(s->event, &s->state_source, s->state_fd, EPOLLPRI, on_state, s);
    if (r >= 0 && s->cgroup < 0)
        r = timer_new(&s->look_timer, s->event, USEC_PER_MSEC, on_look, s);
    return r;
}

/* clone3() starts it within its cgroup. Where a filter of system calls denies it, as RestrictNamespaces= of the unit and
 * container engines do, fork(), and it moves there before it becomes the program. */
static int fork_child(Spawned *s, Child *c) {
    struct clone_args args = {
        .flags = CLONE_PIDFD, .pidfd = (uint64_t) (uintptr_t) &s->pidfd, .exit_signal = SIGCHLD
    };

    if (s->cgroup >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t) s->cgroup;
    }
    s->pid = (pid_t) syscall(SYS_clone3, &args, sizeof(args));
    if (s->pid < 0 && errno == ENOSYS) {
        c->cgroup = s->cgroup;
        s->pid = fork();
        if (s->pid > 0)
            s->pidfd = pidfd_open(s->pid, 0);
    }
    if (s->pid == 0)
        child_exec(c);
    if (s->pid < 0) {
        s->pid = 0;
        return -errno;
    }
    return s->pidfd < 0 ? -errno : 0;
}

static int start(Spawned *s, const SpawnSpec *spec) {
    _cleanup_(child_environment_freep) char **environment = NULL;
    int fds[2];

    int r = string_printf(&s->name, "%s.%" PRIu64, spec->name, ++count);
    if (r >= 0)
        r = folder_new(s->name, &s->folder);
    if (r >= 0 && has_cgroups()) {
        r = cgroup_new(&tree, s->name, spec->limits, &s->cgroup);
        if (r >= 0)
            r = s->state_fd = cgroup_open_state(s->cgroup);
    }
    if (r >= 0)
        r = child_environment(spec->environment, s->folder, &environment);
    if (r < 0)
        return r;
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
        return -errno;
    s->error_fd = fds[0];
    Child child = { .argv = spec->argv,
        .environment = environment,
        .stdio = spec->stdio,
        .folder = s->folder,
        .error_fd = fds[1],
        .parent = getpid(),
        .cgroup = -EBADF,
        .adopt = !has_cgroups() };
    r = fork_child(s, &child);
    (void) close_fd(fds[1]);
    return r < 0 ? r : watch(s);
}

int spawn_start(
    Spawned **ret, sd_event *event, const SpawnSpec *spec, const SpawnEvents *events, void *userdata) {
    Spawned *s = calloc(1, sizeof(Spawned));

    if (!s)
        return -ENOMEM;
    *s = (Spawned){ .next = first,
        .events = *events,
        .userdata = userdata,
        .event = event,
        .pidfd = -EBADF,
        .error_fd = -EBADF,
        .cgroup = -EBADF,
        .state_fd = -EBADF,
        .look_usec = LOOK_FIRST_USEC };
    if (first)
        first->previous = s;
    first = s;
    int r = start(s, spec);
    if (r < 0) {
        spawn_free(s);
        return r;
    }
    *ret = s;
    return 0;
}

/* ---- while it runs ---- */

static void signal_group(Spawned *s, int number) {
    if (kill(-s->pid, number) < 0)
        (void) kill(s->pid, number); /* it has not made its session yet */
}

void spawn_stop(Spawned *s, bool ask) {
    if (s->pid == 0)
        return; /* what is left is being killed */
    if (ask) {
        signal_group(s, SIGTERM);
        (void) spawn_freeze(s, false);
    } else if (s->cgroup >= 0)
        (void) cgroup_kill(s->cgroup);
    else {
        tree_kill(s->pid);
        signal_group(s, SIGKILL);
    }
}

int spawn_freeze(Spawned *s, bool freeze) {
    if (s->pid == 0 || freeze == (s->temperature != WARM))
        return 0;
    if (s->cgroup >= 0) {
        int r = cgroup_freeze(s->cgroup, freeze);
        if (r < 0)
            return r;
    } else if (!freeze)
        tree_thaw(s->pid);
    s->look_usec = LOOK_FIRST_USEC;
    set_temperature(s, freeze ? FREEZING : WARM);
    if (freeze)
        look(s);
    return 0;
}

pid_t spawn_pid(const Spawned *s) {
    return s->pid;
}

uint64_t spawn_memory(const Spawned *s) {
    const int64_t all = s->cgroup >= 0 ? cgroup_memory(s->cgroup) : -1;

    return all >= 0 ? (uint64_t) all : s->pid > 0 ? tree_memory(s->pid) : 0;
}

/* Killed: it is a matter of microseconds, unless the kernel holds one of them. */
static void kill_and_wait(Spawned *s) {
    if (s->pid > 0) {
        spawn_stop(s, false);
        (void) reap(s, true);
    }
    for (unsigned i = 0; i < FREE_LOOKS && !is_empty(s); i++)
        (void) usleep(LOOK_FIRST_USEC);
}

Spawned *spawn_free(Spawned *s) {
    if (!s)
        return NULL;
    if (s->pidfd >= 0 && !s->ended)
        kill_and_wait(s);
    *(s->previous ? &s->previous->next : &first) = s->next;
    if (s->next)
        s->next->previous = s->previous;
    sd_event_source_disable_unref(s->exit_source);
    sd_event_source_disable_unref(s->state_source);
    sd_event_source_disable_unref(s->look_timer);
    s->pidfd = close_fd(s->pidfd);
    s->error_fd = close_fd(s->error_fd);
    s->state_fd = close_fd(s->state_fd);
    s->cgroup = close_fd(s->cgroup);
    if (has_cgroups() && s->name)
        (void) cgroup_remove(&tree, s->name);
    if (s->folder)
        folder_remove(s->event, s->folder);
    buf_done(&s->left);
    free(s->folder);
    free(s->name);
    free(s);
    return NULL;
}
