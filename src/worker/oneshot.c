/* SPDX-License-Identifier: MIT */
/*
 * The oneshot executor: one process a task. Payload on standard input, a file; result on standard output, standard error
 * to the log.
 */
#include <fcntl.h>
#include <sys/epoll.h>

#include "worker/payload.h"
#include "worker/run.h"
#include "worker/spawn.h"
#include "worker/story.h"

#define CHUNK 16384

enum { PIPE_OUTPUT, PIPE_ERROR, _PIPES };

typedef struct Execution {
    Spawned *program;
    int fd[_PIPES]; /* our ends, non-blocking */
    sd_event_source *io[_PIPES];
} Execution;

static void pipe_close(Execution *x, int which) {
    x->io[which] = sd_event_source_disable_unref(x->io[which]);
    x->fd[which] = close_fd(x->fd[which]);
}

static void execution_free(Execution *x) {
    if (!x)
        return;
    x->program = spawn_free(x->program);
    for (int i = 0; i < _PIPES; i++)
        pipe_close(x, i);
    free(x);
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

static int watch(Run *run, sd_event *event) {
    static const sd_event_io_handler_t handlers[] = { [PIPE_OUTPUT] = on_output, [PIPE_ERROR] = on_error };
    Execution *x = run->execution;
    int r = 0;

    for (size_t i = 0; i < _PIPES && r >= 0; i++) {
        r = sd_event_add_io(event, &x->io[i], x->fd[i], EPOLLIN, handlers[i], run);
        /* Behind the turn: a program that floods its output must not keep the others from starting and ending. */
        if (r >= 0)
            r = sd_event_source_set_priority(x->io[i], SD_EVENT_PRIORITY_NORMAL + 20);
    }
    return r;
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
        x->fd[i] = fds[0];
        ends[i] = fds[1];
        if (fcntl(x->fd[i], F_SETFL, O_NONBLOCK) < 0)
            return -errno;
    }
    return 0;
}

enum { VARIABLES = 6 };

static int environment(const Run *run, char *ret[static VARIABLES + 1]) {
    int r = string_printf(&ret[0], "PGMILL_TASK=%s", run->id_text);
    if (r >= 0)
        r = string_printf(&ret[1], "PGMILL_NAME=%s", run->name);
    if (r >= 0)
        r = string_printf(&ret[2], "PGMILL_QUEUE=%s", run->queue);
    if (r >= 0)
        r = string_printf(&ret[3], "PGMILL_ATTEMPT=%u", run->attempt);
    if (r >= 0 && run->notify)
        r = string_printf(&ret[4], "NOTIFY_SOCKET=%s", notify_path(run->notify));
    if (r >= 0 && run->notify && run->handler->watchdog_usec != UINT64_MAX)
        r = string_printf(&ret[5], "WATCHDOG_USEC=%ju", (uintmax_t) run->handler->watchdog_usec);
    return r;
}

static void on_ended(_unused_ Spawned *s, const SpawnEnd *end, void *userdata) {
    Run *run = userdata;
    Execution *x = run->execution;
    RunExit exit = {
        .start_error = end->start_error, .code = end->code, .status = end->status, .usage = end->usage
    };

    pipes_drain(run);
    if (end->left)
        story_left(run, end->left);
    x->program = spawn_free(x->program); /* before anybody hears that it has ended */
    run_exited(run, &exit);
}

static void on_frozen(_unused_ Spawned *s, bool frozen, void *userdata) {
    run_frozen(userdata, frozen);
}

static int spawn(Run *run, sd_event *event, int input, const int ends[static _PIPES]) {
    static const SpawnEvents events = { .ended = on_ended, .frozen = on_frozen };
    Execution *x = run->execution;
    char *variables[VARIABLES + 1] = {};
    const SpawnSpec spec = { .name = run->id_text,
        .argv = run->handler->argv,
        .environment = variables,
        .stdio = { input, ends[PIPE_OUTPUT], ends[PIPE_ERROR] },
        .limits = &run->handler->limits };

    run_open_notify(run);
    int r = environment(run, variables);
    if (r >= 0)
        r = spawn_start(&x->program, event, &spec, &events, run);
    for (size_t i = 0; i < VARIABLES; i++)
        free(variables[i]);
    return r;
}

static int oneshot_start(Run *run, sd_event *event) {
    int ends[_PIPES] = { -EBADF, -EBADF };
    Execution *x = calloc(1, sizeof(Execution));

    if (!x)
        return -ENOMEM;
    for (int i = 0; i < _PIPES; i++)
        x->fd[i] = -EBADF;
    run->execution = x;
    _cleanup_(closep) int input = payload_file(&run->payload);
    int r = input < 0 ? input : pipes_open(x, ends);
    if (r >= 0)
        r = spawn(run, event, input, ends);
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

    if (x && x->program)
        spawn_stop(x->program, ask);
}

static int oneshot_freeze(Run *run, bool freeze) {
    Execution *x = run->execution;

    return spawn_freeze(x->program, freeze);
}

static void oneshot_done(Run *run) {
    execution_free(TAKE_PTR(run->execution));
}

const Executor executor_oneshot = {
    .name = "oneshot",
    .missing = oneshot_missing,
    .start = oneshot_start,
    .stop = oneshot_stop,
    .freeze = oneshot_freeze,
    .done = oneshot_done,
};
