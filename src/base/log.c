/* SPDX-License-Identifier: MIT */
/*
 * Speaks the journal's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL) on a non-blocking socket of its own:
 * sd_journal_send() waits when the journal is slow, and the loop must not.
 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#define JOURNAL_SOCKET "/run/systemd/journal/socket"
#define LINE_LIMIT     2048

static int journal_fd = -EBADF;
static int max_level = LOG_INFO;
static const char *log_name = "pgmill";
static uint64_t dropped;

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
    const struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = JOURNAL_SOCKET };

    log_name = name;
    if (journal_fd >= 0 || !stderr_is_journal())
        return;
    _cleanup_(closep) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *) &address, sizeof(address)) == 0)
        journal_fd = TAKE_FD(fd);
}

void log_set_level(int level) {
    max_level = level;
}

uint64_t log_dropped(void) {
    uint64_t n = dropped;
    dropped = 0;
    return n;
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

static void send_journal(int level, const char *text, size_t len, const LogTask *task) {
    _cleanup_(buf_done) Buf b = {};

    add_field(&b, "PRIORITY", &"01234567"[level & 7], 1);
    add_string(&b, "SYSLOG_IDENTIFIER", log_name);
    add_field(&b, "MESSAGE", text, len);
    if (task) {
        char attempt[16];
        (void) snprintf(attempt, sizeof(attempt), "%u", task->attempt);
        add_string(&b, "PGMILL_TASK", task->id);
        add_string(&b, "PGMILL_NAME", task->name);
        add_string(&b, "PGMILL_QUEUE", task->queue);
        add_string(&b, "PGMILL_ATTEMPT", attempt);
    }
    if (buf_error(&b) < 0 || send(journal_fd, b.data, b.len, MSG_NOSIGNAL) < 0)
        dropped++;
}

/* For people at a terminal and for whatever collects standard error. */
static void send_stderr(int level, const char *text, size_t len, const LogTask *task) {
    static const char *const names[] = { "emerg", "alert", "crit", "error", "warning", "notice", "info",
        "debug" };
    _cleanup_(buf_done) Buf b = {};

    buf_printf(&b, "%s: ", log_name);
    if (task)
        buf_printf(&b, "%s %s: ", task->name, task->id);
    else if (level != LOG_INFO && level != LOG_NOTICE)
        buf_printf(&b, "%s: ", names[level & 7]);
    buf_add(&b, text, len);
    buf_putc(&b, '\n');
    if (buf_error(&b) < 0 || write(STDERR_FILENO, b.data, b.len) < 0)
        dropped++;
}

static void send_line(int level, const char *text, size_t len, const LogTask *task) {
    if (journal_fd >= 0)
        send_journal(level, text, len, task);
    else
        send_stderr(level, text, len, task);
}

int log_full(int level, int error, const char *format, ...) {
    char line[LINE_LIMIT];
    va_list ap;

    if (level <= max_level) {
        errno = error < 0 ? -error : error;
        va_start(ap, format);
        int n = vsnprintf(line, sizeof(line), format, ap);
        va_end(ap);
        send_line(level, line, n < 0 ? 0 : MIN((size_t) n, sizeof(line) - 1), NULL);
    }
    return error;
}

void log_task_line(const LogTask *task, int level, const char *text, size_t len) {
    send_line(level, text, len, task);
}
