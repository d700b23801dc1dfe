/* SPDX-License-Identifier: MIT */
/*
 * The oneshot executor: one process a task. Payload on standard input, result on standard output, standard error
 * to the log. The process leads a session of its own; when it ends, what is left of its group is killed.
 */
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/log.h"
#include "base/service.h"
#include "worker/run.h"

#define CHUNK 16384

enum { PIPE_INPUT, PIPE_OUTPUT, PIPE_ERROR, PIPE_START, _PIPES };

typedef struct Execution {
    pid_t pid;
    sd_event_source *child;
    int fd[_PIPES]; /* our ends, non-blocking; PIPE_START tells the errno of a failed exec */
    sd_event_source *io[_PIPES];
    size_t written; /* of the payload */
} Execution;

static void pipe_close(Execution *x, int which) {
    x->io[which] = sd_event_source_disable_unref(x->io[which]);
    x->fd[which] = close_fd(x->fd[which]);
}

static void execution_free(Execution *x) {
    if (!x)
        return;
    sd_event_source_disable_unref(x->child);
    if (x->pid > 0) {
        (void) kill(-x->pid, SIGKILL);
        (void) waitpid(x->pid, NULL, 0); /* killed: it is a matter of microseconds */
    }
    for (int i = 0; i < _PIPES; i++)
        pipe_close(x, i);
    free(x);
}

/* ---- the child's side: async-signal-safe calls only ---- */

static void child_exec(const int ends[static _PIPES], char *const argv[], char *const envp[], pid_t parent) {
    sigset_t none;
    int error;

    (void) sigemptyset(&none);
    (void) sigprocmask(SIG_SETMASK, &none, NULL);
    for (int number = 1; number < NSIG; number++)
        (void) signal(number, SIG_DFL); /* what was ignored would stay so */
    service_restore_descriptors();
    (void) setsid();
    /* The worker's end is the task's end: nobody else would know of it. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
        _exit(EXIT_FAILURE);
    if (dup2(ends[PIPE_INPUT], 0) < 0 || dup2(ends[PIPE_OUTPUT], 1) < 0 || dup2(ends[PIPE_ERROR], 2) < 0 ||
        dup2(ends[PIPE_START], 3) < 0 || fcntl(3, F_SETFD, FD_CLOEXEC) < 0 || close_range(4, ~0U, 0) < 0 ||
        chdir("/") < 0)
        error = errno;
    else {
        (void) umask(022);
        (void) execve(argv[0], argv, envp);
        error = errno;
    }
    if (write(3, &error, sizeof(error)) < 0)
        _exit(EXIT_FAILURE);
    _exit(EXIT_FAILURE);
}

/* ---- our side ---- */

static int on_input(_unused_ sd_event_source *s, int fd, _unused_ uint32_t revents, void *userdata) {
    Run *run = userdata;
    Execution *x = run->execution;
    size_t len = strlen(run->payload);

    ssize_t n = write(fd, run->payload + x->written, len - x->written);
    if (n > 0)
        x->written += (size_t) n;
    /* A program need not read its payload: EPIPE is its choice. */
    if (x->written == len || (n < 0 && errno != EAGAIN && errno != EINTR))
        pipe_close(x, PIPE_INPUT);
    return 0;
}

/* One chunk. 1: there may be more; 0: nothing now; -EPIPE: the end. */
static int pipe_read(Run *run, int which) {
    Execution *x = run->execution;
    char chunk[CHUNK];

    if (x->fd[which] < 0)
        return -EPIPE;
    ssize_t n = read(x->fd[which], chunk, sizeof(chunk));
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0) {
        pipe_close(x, which);
        return -EPIPE;
    }
    if (which == PIPE_OUTPUT)
        run_output(run, chunk, (size_t) n);
    else
        run_error_output(run, chunk, (size_t) n);
    return 1;
}

static int on_output(
    _unused_ sd_event_source *s, _unused_ int fd, _unused_ uint32_t revents, void *userdata) {
    (void) pipe_read(userdata, PIPE_OUTPUT);
    return 0;
}

static int on_error(_unused_ sd_event_source *s, _unused_ int fd, _unused_ uint32_t revents, void *userdata) {
    (void) pipe_read(userdata, PIPE_ERROR);
    return 0;
}

/* What stands in the pipes when the program ends is bounded by their size, unless something it left behind
 * outside its group goes on writing: so a bounded number of chunks. */
static void pipes_drain(Run *run) {
    for (int which = PIPE_OUTPUT; which <= PIPE_ERROR; which++)
        for (int i = 0; i < 1024 * 1024 / CHUNK && pipe_read(run, which) > 0; i++)
            ;
}

static int on_child(_unused_ sd_event_source *s, const siginfo_t *si, void *userdata) {
    Run *run = userdata;
    Execution *x = run->execution;
    RunExit exit = { .code = si->si_code, .status = si->si_status };

    (void) kill(-x->pid, SIGKILL); /* descendants that stayed in its group */
    x->pid = 0;
    pipes_drain(run);
    if (read(x->fd[PIPE_START], &exit.start_error, sizeof(exit.start_error)) != sizeof(exit.start_error))
        exit.start_error = 0;
    run_exited(run, &exit);
    return 0;
}

static int watch(Run *run, sd_event *event) {
    static const struct {
        uint32_t events;
        sd_event_io_handler_t handler;
    } pipes[] = {
        [PIPE_INPUT] = { EPOLLOUT, on_input },
        [PIPE_OUTPUT] = { EPOLLIN, on_output },
        [PIPE_ERROR] = { EPOLLIN, on_error },
    };
    Execution *x = run->execution;

    for (size_t i = 0; i < ELEMENTS(pipes); i++) {
        int r = sd_event_add_io(event, &x->io[i], x->fd[i], pipes[i].events, pipes[i].handler, run);
        if (r < 0)
            return r;
    }
    /* Behind the turn: a program that floods its output must not keep the others from starting and ending. */
    for (size_t i = 0; i < ELEMENTS(pipes); i++) {
        int r = sd_event_source_set_priority(x->io[i], SD_EVENT_PRIORITY_NORMAL + 20);
        if (r < 0)
            return r;
    }
    return sd_event_add_child(event, &x->child, x->pid, WEXITED, on_child, run);
}

static void ends_close(int ends[static _PIPES]) {
    for (int i = 0; i < _PIPES; i++)
        ends[i] = close_fd(ends[i]);
}

/* Our ends go to x->fd, the child's to ends; all close-on-exec, ours non-blocking. */
static int pipes_open(Execution *x, int ends[static _PIPES]) {
    for (int i = 0; i < _PIPES; i++) {
        int fds[2];
        if (pipe2(fds, O_CLOEXEC) < 0)
            return -errno;
        bool input = i == PIPE_INPUT;
        x->fd[i] = fds[input ? 1 : 0];
        ends[i] = fds[input ? 0 : 1];
        if (fcntl(x->fd[i], F_SETFL, O_NONBLOCK) < 0)
            return -errno;
    }
    return 0;
}

/* dup2() in the child must not overwrite an end that it still needs. */
static int ends_above_stdio(int ends[static _PIPES]) {
    for (int i = 0; i < _PIPES; i++) {
        if (ends[i] > 3)
            continue;
        int fd = fcntl(ends[i], F_DUPFD_CLOEXEC, 4);
        if (fd < 0)
            return -errno;
        (void) close_fd(ends[i]);
        ends[i] = fd;
    }
    return 0;
}

static int environment(const Run *run, char *ret[static 8]) {
    int r = string_replace(&ret[0], "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin");
    if (r >= 0)
        r = string_replace(&ret[1], "LANG=C.UTF-8");
    if (r >= 0)
        r = string_printf(&ret[2], "PGMILL_TASK=%s", run->id_text);
    if (r >= 0)
        r = string_printf(&ret[3], "PGMILL_NAME=%s", run->name);
    if (r >= 0)
        r = string_printf(&ret[4], "PGMILL_QUEUE=%s", run->queue);
    if (r >= 0)
        r = string_printf(&ret[5], "PGMILL_ATTEMPT=%u", run->attempt);
    return r;
}

static int spawn(Run *run, const int ends[static _PIPES], char *const argv[]) {
    Execution *x = run->execution;
    char *envp[8] = {};
    pid_t parent = getpid();

    int r = environment(run, envp);
    if (r >= 0) {
        x->pid = fork();
        if (x->pid == 0)
            child_exec(ends, argv, envp, parent);
        r = x->pid < 0 ? -errno : 0;
    }
    for (size_t i = 0; i < ELEMENTS(envp); i++)
        free(envp[i]);
    return r;
}

static int oneshot_start(Run *run, sd_event *event, char *const argv[]) {
    int ends[_PIPES] = { -EBADF, -EBADF, -EBADF, -EBADF };
    Execution *x = calloc(1, sizeof(Execution));

    if (!x)
        return -ENOMEM;
    for (int i = 0; i < _PIPES; i++)
        x->fd[i] = -EBADF;
    run->execution = x;
    int r = pipes_open(x, ends);
    if (r >= 0)
        r = ends_above_stdio(ends);
    if (r >= 0)
        r = spawn(run, ends, argv);
    ends_close(ends);
    if (r >= 0)
        r = watch(run, event);
    return r;
}

static const char *oneshot_missing(const Handler *handler) {
    return handler->argv ? NULL : "Exec";
}

static void oneshot_stop(Run *run, bool ask) {
    Execution *x = run->execution;

    if (x && x->pid > 0)
        (void) kill(-x->pid, ask ? SIGTERM : SIGKILL);
}

static void oneshot_done(Run *run) {
    execution_free(TAKE_PTR(run->execution));
}

const Executor executor_oneshot = {
    .name = "oneshot",
    .missing = oneshot_missing,
    .start = oneshot_start,
    .stop = oneshot_stop,
    .done = oneshot_done,
};
