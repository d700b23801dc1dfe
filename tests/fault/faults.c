/* SPDX-License-Identifier: MIT */
/*
 * A pgmill whose Nth call of a function that may fail does fail, once: PGMILL_FAULT=N; 0 or unset: none. The linker sends
 * the calls of pgmill's own code here (--wrap), those of libraries go their way. It says on standard error which call it
 * was, or at the end how many there were.
 */
#include <errno.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <microhttpd.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <systemd/sd-event.h>
#include <unistd.h>

static unsigned long calls, fault;

__attribute__((constructor)) static void begin(void) {
    const char *n = getenv("PGMILL_FAULT");

    fault = n ? strtoul(n, NULL, 10) : 0;
}

__attribute__((destructor)) static void end(void) {
    fprintf(stderr, "faults: %lu calls\n", calls);
}

static bool fails(const char *function) {
    if (++calls != fault)
        return false;
    fprintf(stderr, "faults: call %lu fails: %s\n", calls, function);
    return true;
}

/* FAULT(type, name, (parameters), (arguments), what it returns, errno) */
#define FAULT(type, name, parameters, arguments, failure, error) \
    type __real_##name parameters;                               \
    type __wrap_##name parameters;                               \
    type __wrap_##name parameters {                              \
        if (!fails(#name))                                       \
            return __real_##name arguments;                      \
        errno = error;                                           \
        return failure;                                          \
    }

/* memory */
FAULT(void *, malloc, (size_t n), (n), NULL, ENOMEM)
FAULT(void *, calloc, (size_t n, size_t size), (n, size), NULL, ENOMEM)
FAULT(void *, realloc, (void *p, size_t n), (p, n), NULL, ENOMEM)
FAULT(void *, reallocarray, (void *p, size_t n, size_t size), (p, n, size), NULL, ENOMEM)
FAULT(char *, strdup, (const char *s), (s), NULL, ENOMEM)
FAULT(char *, strndup, (const char *s, size_t n), (s, n), NULL, ENOMEM)
FAULT(int, vasprintf, (char **to, const char *format, va_list list), (to, format, list), -1, ENOMEM)

/* files and processes */
FAULT(int, open64, (const char *path, int flags, mode_t mode), (path, flags, mode), -1, EMFILE)
FAULT(int, openat64, (int at, const char *path, int flags, mode_t mode), (at, path, flags, mode), -1, EMFILE)
FAULT(FILE *, fopen64, (const char *path, const char *mode), (path, mode), NULL, EMFILE)
FAULT(ssize_t, read, (int fd, void *to, size_t n), (fd, to, n), -1, EIO)
FAULT(ssize_t, pread64, (int fd, void *to, size_t n, off_t at), (fd, to, n, at), -1, EIO)
FAULT(ssize_t, write, (int fd, const void *from, size_t n), (fd, from, n), -1, EIO)
FAULT(int, pipe2, (int fds[2], int flags), (fds, flags), -1, EMFILE)
FAULT(int, fstat64, (int fd, struct stat64 *to), (fd, to), -1, EIO)
FAULT(int, mkdir, (const char *path, mode_t mode), (path, mode), -1, ENOSPC)
FAULT(int, mkdirat, (int at, const char *path, mode_t mode), (at, path, mode), -1, ENOSPC)
FAULT(char *, mkdtemp, (char *path), (path), NULL, ENOSPC)
FAULT(pid_t, fork, (void), (), -1, EAGAIN)
FAULT(int, pidfd_open, (pid_t pid, unsigned flags), (pid, flags), -1, EMFILE)
FAULT(int, posix_spawn,
    (pid_t * pid, const char *path, const posix_spawn_file_actions_t *actions,
        const posix_spawnattr_t *attributes, char *const arguments[], char *const environment[]),
    (pid, path, actions, attributes, arguments, environment), EAGAIN, 0)

/* sockets */
FAULT(int, socket, (int domain, int type, int protocol), (domain, type, protocol), -1, EMFILE)
FAULT(int, accept4, (int fd, struct sockaddr *from, socklen_t *size, int flags), (fd, from, size, flags), -1,
    EMFILE)
FAULT(int, setsockopt, (int fd, int level, int option, const void *value, socklen_t size),
    (fd, level, option, value, size), -1, ENOBUFS)
FAULT(ssize_t, recv, (int fd, void *to, size_t n, int flags), (fd, to, n, flags), -1, ECONNRESET)
FAULT(ssize_t, send, (int fd, const void *from, size_t n, int flags), (fd, from, n, flags), -1, ENOBUFS)

/* the loop */
FAULT(int, sd_event_add_io,
    (sd_event * e, sd_event_source **source, int fd, uint32_t events, sd_event_io_handler_t call,
        void *userdata),
    (e, source, fd, events, call, userdata), -ENOMEM, 0)
FAULT(int, sd_event_add_time,
    (sd_event * e, sd_event_source **source, clockid_t clock, uint64_t at, uint64_t accuracy,
        sd_event_time_handler_t call, void *userdata),
    (e, source, clock, at, accuracy, call, userdata), -ENOMEM, 0)
FAULT(int, sd_event_add_time_relative,
    (sd_event * e, sd_event_source **source, clockid_t clock, uint64_t in, uint64_t accuracy,
        sd_event_time_handler_t call, void *userdata),
    (e, source, clock, in, accuracy, call, userdata), -ENOMEM, 0)
FAULT(int, sd_event_add_defer,
    (sd_event * e, sd_event_source **source, sd_event_handler_t call, void *userdata),
    (e, source, call, userdata), -ENOMEM, 0)

/* the database */
FAULT(int, PQsendPrepare, (PGconn * c, const char *name, const char *query, int n, const Oid *types),
    (c, name, query, n, types), 0, 0)
FAULT(int, PQsendQueryPrepared,
    (PGconn * c, const char *name, int n, const char *const *values, const int *lengths, const int *formats,
        int format),
    (c, name, n, values, lengths, formats, format), 0, 0)
FAULT(int, PQpipelineSync, (PGconn * c), (c), 0, 0)
FAULT(int, PQflush, (PGconn * c), (c), -1, 0)
FAULT(int, PQconsumeInput, (PGconn * c), (c), 0, 0)
FAULT(PGconn *, PQconnectStartParams, (const char *const *names, const char *const *values, int expand),
    (names, values, expand), NULL, 0)
FAULT(PostgresPollingStatusType, PQconnectPoll, (PGconn * c), (c), PGRES_POLLING_FAILED, 0)

/* HTTP */
FAULT(struct MHD_Response *, MHD_create_response_from_buffer,
    (size_t size, void *body, enum MHD_ResponseMemoryMode mode), (size, body, mode), NULL, 0)
FAULT(enum MHD_Result, MHD_queue_response,
    (struct MHD_Connection * c, unsigned status, struct MHD_Response *response), (c, status, response),
    MHD_NO, 0)
FAULT(enum MHD_Result, MHD_add_response_header,
    (struct MHD_Response * response, const char *name, const char *value), (response, name, value), MHD_NO, 0)
