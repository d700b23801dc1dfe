/* SPDX-License-Identifier: MIT */
#include "base/resolve.h"

#include <fcntl.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define ANSWER_MAX 65536

struct Resolve {
    sd_event_source *io, *timer;
    int pidfd;
    Buf answer;
    ResolveCallback callback;
    void *userdata;
};

/* ---- the child's side ---- */

static void look_up(size_t number, const char *host) {
    const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
    struct addrinfo *list;
    char address[NI_MAXHOST];
    int n = 0;

    int r = getaddrinfo(host, NULL, &hints, &list);
    if (r != 0) {
        (void) dprintf(
            STDOUT_FILENO, "%zu !%s\n", number, r == EAI_SYSTEM ? strerror(errno) : gai_strerror(r));
        return;
    }
    for (struct addrinfo *a = list; a && n < RESOLVE_ADDRESSES_MAX; a = a->ai_next, n++)
        if (getnameinfo(a->ai_addr, a->ai_addrlen, address, sizeof(address), NULL, 0, NI_NUMERICHOST) == 0)
            (void) dprintf(STDOUT_FILENO, "%zu %s\n", number, address);
    freeaddrinfo(list);
}

/* Nothing of the parent's stays open here: its session with the database ends with it, not with this child. */
static _Noreturn void child(char *const hosts[], int answer, pid_t parent) {
    sigset_t none;

    (void) sigemptyset(&none);
    (void) sigprocmask(SIG_SETMASK, &none, NULL);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent || dup2(answer, STDOUT_FILENO) < 0)
        _exit(1);
    (void) syscall(SYS_close_range, 3U, ~0U, 0U);
    (void) setenv(
        "RES_OPTIONS", "timeout:2 attempts:2", 0); /* resolv.conf(5): so that a second name has its turn */
    for (size_t i = 0; hosts[i]; i++)
        look_up(i, hosts[i]);
    _exit(0);
}

/* ---- the parent's side ---- */

/* The child cannot be waiting for anything but its own end. */
static void end_child(Resolve *r) {
    siginfo_t si;

    if (r->pidfd < 0)
        return;
    (void) syscall(SYS_pidfd_send_signal, r->pidfd, SIGKILL, NULL, 0);
    (void) waitid(P_PIDFD, (id_t) r->pidfd, &si, WEXITED);
    r->pidfd = close_fd(r->pidfd);
}

static void finish(Resolve *r) {
    r->io = sd_event_source_disable_unref(r->io);
    r->timer = sd_event_source_disable_unref(r->timer);
    end_child(r);
    r->callback(r->answer.data ? r->answer.data : "", r->userdata);
}

static int on_timer(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
    finish(userdata);
    return 0;
}

static int on_answer(_unused_ sd_event_source *s, int fd, _unused_ uint32_t revents, void *userdata) {
    Resolve *r = userdata;
    char *room = buf_reserve(&r->answer, 4096);
    ssize_t n = room && r->answer.len < ANSWER_MAX ? read(fd, room, 4096) : 0;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n > 0)
        buf_grew(&r->answer, (size_t) n);
    else
        finish(r);
    return 0;
}

static int start_child(Resolve *r, char *const hosts[], int *ret_answer) {
    int pipes[2];
    pid_t parent = getpid();

    if (pipe2(pipes, O_CLOEXEC) < 0)
        return -errno;
    pid_t pid = fork();
    if (pid == 0)
        child(hosts, pipes[1], parent);
    int e = pid < 0 ? -errno : 0;
    (void) close(pipes[1]);
    if (pid > 0) {
        r->pidfd = (int) syscall(SYS_pidfd_open, pid, 0);
        if (r->pidfd < 0) {
            e = -errno;
            (void) kill(pid, SIGKILL);
            (void) waitpid(pid, NULL, 0);
        }
    }
    if (e < 0) {
        (void) close(pipes[0]);
        return e;
    }
    *ret_answer = pipes[0];
    return fcntl(pipes[0], F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

int resolve_start(
    Resolve **ret, sd_event *event, char *const hosts[], ResolveCallback callback, void *userdata) {
    _cleanup_(resolve_freep) Resolve *r = calloc(1, sizeof(Resolve));
    _cleanup_(closep) int answer = -EBADF;

    if (!r)
        return -ENOMEM;
    r->pidfd = -EBADF;
    r->callback = callback;
    r->userdata = userdata;
    int e = start_child(r, hosts, &answer);
    if (e >= 0)
        e = sd_event_add_io(event, &r->io, answer, EPOLLIN, on_answer, r);
    if (e >= 0)
        e = sd_event_source_set_io_fd_own(r->io, true);
    if (e < 0)
        return e;
    answer = -EBADF;
    e = sd_event_add_time_relative(
        event, &r->timer, CLOCK_BOOTTIME, RESOLVE_LIMIT_USEC, USEC_PER_MSEC, on_timer, r);
    if (e < 0)
        return e;
    *ret = TAKE_PTR(r);
    return 0;
}

Resolve *resolve_free(Resolve *r) {
    if (!r)
        return NULL;
    sd_event_source_disable_unref(r->io);
    sd_event_source_disable_unref(r->timer);
    end_child(r);
    buf_done(&r->answer);
    free(r);
    return NULL;
}

void resolve_freep(Resolve **r) {
    resolve_free(*r);
}
