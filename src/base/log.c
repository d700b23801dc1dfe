/* SPDX-License-Identifier: MIT */
/*
 * Speaks the journal's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL) on a non-blocking socket of its own:
 * sd_journal_send() waits when the journal is slow, and the loop must not.
 */
#include "base/log.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/outbox.h"
#include "base/timer.h"

#define JOURNAL_SOCKET "/run/systemd/journal/socket"
#define LINE_LIMIT     2048
#define BACKLOG_MAX    ((size_t) 1024 * 1024)
#define RETRY_FIRST    (10 * USEC_PER_MSEC)
#define RETRY_MAX      USEC_PER_SEC
#define CLOSE_USEC     (2 * USEC_PER_MSEC) /* between tries to hand over the rest … */
#define CLOSE_TRIES    1000                /* … at the end of the process, without any success */

static bool to_journal; /* standard error is */
static int journal_fd = -EBADF;
static int stderr_fd = STDERR_FILENO;
static bool stderr_is_socket;
static int max_level = LOG_INFO;
static LogTap tap;
static void *tap_userdata;
static const char *log_name = "pgmill";

static Outbox backlog = { .max = BACKLOG_MAX }; /* what was not taken at once */
static uint64_t dropped;                        /* messages behind it that found no room */
static sd_event_source *retry_timer;
static uint64_t retry_usec = RETRY_FIRST;

/* systemd.exec(5): JOURNAL_STREAM= is DEVICE:INODE of the stream that the manager connected. */
static bool stderr_is_journal(void) {
    const char *stream = getenv("JOURNAL_STREAM");
    char here[64];
    struct stat st;

    if (!stream || fstat(STDERR_FILENO, &st) < 0)
        return false;
    (void) snprintf(here, sizeof(here), "%ju:%ju", (uintmax_t) st.st_dev, (uintmax_t) st.st_ino);
    return streq(stream, here);
}

void log_open(const char *name) {
    log_name = name;
    to_journal = stderr_is_journal() && access(JOURNAL_SOCKET, W_OK) == 0;
}

/* The journal asks the kernel which service a message of this protocol is of, and gets no answer when its process has
 * ended meanwhile. What comes by standard error it knows. So who may end at once, with a broken setting, takes that. */
static void journal_open(void) {
    if (to_journal && journal_fd < 0)
        journal_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

void log_set_level(int level) {
    max_level = level;
}

/* Values are framed with their length, so that they may hold anything. */
static void add_field(Buf *b, const char *name, const char *value, size_t len) {
    uint8_t size[8];

    for (size_t i = 0; i < sizeof(size); i++)
        size[i] = (uint8_t) ((uint64_t) len >> (8 * i));
    buf_puts(b, name);
    buf_putc(b, '\n');
    buf_add(b, size, sizeof(size));
    buf_add(b, value, len);
    buf_putc(b, '\n');
}

static void add_string(Buf *b, const char *name, const char *value) {
    add_field(b, name, value, strlen(value));
}

/* ---- messages ---- */

typedef struct Line {
    int level;
    const char *id;      /* or NULL */
    const LogTask *task; /* or NULL */
    const char *text;
    size_t len;
} Line;

static void write_journal(Buf *b, const Line *line) {
    const LogTask *task = line->task;

    add_field(b, "PRIORITY", &"01234567"[line->level & 7], 1);
    /* journalctl shows it before each line: which of a worker's many tasks this is about. */
    add_string(b, "SYSLOG_IDENTIFIER", task ? task->name : log_name);
    add_field(b, "MESSAGE", line->text, line->len);
    if (line->id)
        add_string(b, "MESSAGE_ID", line->id);
    if (task)
        add_string(b, "PGMILL_NAME", task->name);
    if (task && task->id) {
        char attempt[16];
        (void) snprintf(attempt, sizeof(attempt), "%u", task->attempt);
        add_string(b, "PGMILL_TASK", task->id);
        add_string(b, "PGMILL_QUEUE", task->queue);
        add_string(b, "PGMILL_ATTEMPT", attempt);
    }
}

/* The journal at the other end of standard error: sd-daemon(3). */
static void write_stream(Buf *b, const Line *line) {
    buf_printf(b, "<%d>", line->level & 7);
    buf_add(b, line->text, line->len);
    buf_putc(b, '\n');
}

/* For people at a terminal and for whatever collects standard error. */
static void write_stderr(Buf *b, const Line *line) {
    static const char *const names[] = { "emerg", "alert", "crit", "error", "warning", "notice", "info",
        "debug" };

    buf_printf(b, "%s: ", log_name);
    if (line->task)
        buf_printf(
            b, "%s%s%s: ", line->task->name, line->task->id ? " " : "", line->task->id ? line->task->id : "");
    if (line->level != LOG_INFO && line->level != LOG_NOTICE)
        buf_printf(b, "%s: ", names[line->level & 7]);
    buf_add(b, line->text, line->len);
    buf_putc(b, '\n');
}

/* ---- handing them over ---- */

/* How many bytes were taken: all of them by the journal, maybe less by a pipe. < 0: a negative errno. */
static ssize_t hand_over(const char *data, size_t n) {
    static const struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = JOURNAL_SOCKET };
    ssize_t taken;

    if (journal_fd >= 0)
        taken =
            sendto(journal_fd, data, n, MSG_NOSIGNAL, (const struct sockaddr *) &address, sizeof(address));
    else if (stderr_is_socket)
        taken = send(stderr_fd, data, n, MSG_NOSIGNAL | (retry_timer ? MSG_DONTWAIT : 0));
    else
        taken = write(stderr_fd, data, n);
    return taken < 0 ? -errno : taken;
}

/* Is it worth trying again? The journal may be starting anew. */
static bool may_pass(ssize_t error) {
    static const int reasons[] = { EAGAIN, EINTR, ENOBUFS, ECONNREFUSED, ENOENT };

    for (size_t i = 0; i < ELEMENTS(reasons); i++)
        if (error == -reasons[i])
            return true;
    return false;
}

/* True: it is empty. */
static bool backlog_flush(void) {
    struct iovec first;

    while (outbox_pieces(&backlog, &first, 1) > 0) {
        ssize_t n = hand_over(first.iov_base, first.iov_len);
        if (n < 0 && may_pass(n))
            return false;
        retry_usec = RETRY_FIRST;
        dropped += n < 0;
        outbox_taken(&backlog, n < 0 ? first.iov_len : (size_t) n);
        if (n >= 0 && (size_t) n < first.iov_len)
            return false;
    }
    return true;
}

/* What is not taken now waits behind what waits already. */
static void message_send(Buf *message) {
    const size_t len = message->len;
    ssize_t n = buf_error(message);

    if (n == 0)
        n = backlog_flush() ? hand_over(message->data, len) : -EAGAIN;
    if (n >= 0 && (size_t) n == len)
        return;
    if ((n < 0 && !may_pass(n)) || !retry_timer || outbox_put(&backlog, message) < 0) {
        dropped++;
        return;
    }
    outbox_taken(&backlog, (size_t) MAX(n, 0));
    (void) timer_start(retry_timer, retry_usec);
}

static void log_line(const Line *line) {
    _cleanup_(buf_done) Buf message = {};

    if (tap && line->task)
        tap(line->task, line->level, line->text, line->len, tap_userdata);
    if (line->id || line->task)
        journal_open(); /* for its fields */
    (journal_fd >= 0 ? write_journal : to_journal ? write_stream : write_stderr)(&message, line);
    message_send(&message);
}

static void log_format(int level, const char *id, const LogTask *task, const char *format, va_list ap)
    _printf_(4, 0);
static void log_format(int level, const char *id, const LogTask *task, const char *format, va_list ap) {
    char text[LINE_LIMIT];

    if (level > max_level)
        return;
    int n = vsnprintf(text, sizeof(text), format, ap);
    log_line(&(Line){ level, id, task, text, n < 0 ? 0 : MIN((size_t) n, sizeof(text) - 1) });
}

static void tell_dropped(void) {
    char text[80];

    if (dropped == 0)
        return;
    int n = snprintf(text, sizeof(text), "%" PRIu64 " line%s dropped, which the log did not take in time",
        dropped, PLURAL(dropped));
    dropped = 0;
    log_line(&(Line){ LOG_WARNING, NULL, NULL, text, (size_t) n });
}

static int on_retry(_unused_ sd_event_source *s, _unused_ uint64_t usec, _unused_ void *userdata) {
    retry_usec = MIN(retry_usec * 2, RETRY_MAX);
    if (!backlog_flush())
        return timer_start(retry_timer, retry_usec);
    tell_dropped();
    return 0;
}

void log_close(void) {
    size_t left = SIZE_MAX;

    for (unsigned in_vain = 0; !backlog_flush() && in_vain < CLOSE_TRIES; in_vain++) {
        if (backlog.bytes - backlog.taken < left)
            in_vain = 0;
        left = backlog.bytes - backlog.taken;
        (void) usleep(CLOSE_USEC);
    }
    if (outbox_empty(&backlog))
        tell_dropped();
}

/* That a pipe or terminal is not to be waited for is a flag of an open file that others share, so this opens one of
 * its own. A regular file makes nobody wait. */
int log_set_loop(sd_event *event) {
    struct stat st = {};

    journal_open();
    if (fstat(STDERR_FILENO, &st) >= 0 && (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode))) {
        int fd = open("/proc/self/fd/2", O_WRONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd >= 0)
            stderr_fd = fd;
    }
    stderr_is_socket = S_ISSOCK(st.st_mode);
    return timer_new(&retry_timer, event, 0, on_retry, NULL);
}

int log_full(int level, int error, const char *format, ...) {
    va_list ap;

    errno = error < 0 ? -error : error;
    va_start(ap, format);
    log_format(level, NULL, NULL, format, ap);
    va_end(ap);
    return error;
}

void log_task_line(const LogTask *task, int level, const char *text, size_t len) {
    log_line(&(Line){ level, NULL, task, text, len });
}

void log_event(int level, const char *id, const LogTask *task, const char *format, ...) {
    va_list ap;

    va_start(ap, format);
    log_format(level, id, task, format, ap);
    va_end(ap);
}

void log_set_tap(LogTap reader, void *userdata) {
    tap = reader;
    tap_userdata = userdata;
}
