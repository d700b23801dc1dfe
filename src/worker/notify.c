/* SPDX-License-Identifier: MIT */
#include "worker/notify.h"

#include <sys/socket.h>
#include <sys/un.h>

#include "base/time.h"

#define BEHIND_THE_TURN (SD_EVENT_PRIORITY_NORMAL + 20) /* who floods it waits */
#define DRAIN_MAX       1024                            /* messages; more than a socket's queue holds */

struct Notify {
    int fd; /* non-blocking */
    char *path;
    sd_event_source *io, *timer;
    uint64_t watchdog_usec,
        alive_at;     /* CLOCK_MONOTONIC, which stands still like the program while the machine sleeps */
    uint64_t held_at; /* 0: it runs */
    double progress;
    char status[NOTIFY_STATUS_MAX + 1];
    bool said, spoke; /* something new; anything ever */
    const NotifyEvents *events;
    void *userdata;
};

/* ---- messages ---- */

static void read_status(NotifyMessage *m, const char *value, size_t n) {
    m->status = value;
    m->status_len = n;
}

static void read_progress(NotifyMessage *m, const char *value, size_t n) {
    double progress = 0, unit = 1;
    size_t i = 0;

    for (; i < n && value[i] >= '0' && value[i] <= '9' && progress <= 100; i++)
        progress = progress * 10 + (value[i] - '0');
    if (i == 0)
        return;
    if (i < n && value[i] == '.')
        for (i++; i < n && value[i] >= '0' && value[i] <= '9'; i++)
            progress += (unit /= 10) * (value[i] - '0');
    if (i == n && progress <= 100)
        m->progress = progress;
}

static void read_watchdog(NotifyMessage *m, const char *value, size_t n) {
    m->alive |= n == 1 && *value == '1';
    m->trigger |= n == strlen("trigger") && memcmp(value, "trigger", n) == 0;
}

static void read_extend(NotifyMessage *m, const char *value, size_t n) {
    char text[24];
    uint64_t usec;

    if (n >= sizeof(text))
        return;
    memcpy(text, value, n);
    text[n] = '\0';
    if (parse_uint(text, UINT64_MAX, &usec) >= 0)
        m->extend_usec = usec;
}

static const struct {
    const char *key;
    void (*read)(NotifyMessage *m, const char *value, size_t n);
} keys[] = {
    { "STATUS=", read_status },
    { "X_PGMILL_PROGRESS=", read_progress },
    { "WATCHDOG=", read_watchdog },
    { "EXTEND_TIMEOUT_USEC=", read_extend },
};

int notify_parse(const char *text, size_t n, NotifyMessage *ret) {
    *ret = (NotifyMessage){ .progress = -1 };
    if (n > 0 && text[n - 1] == '\0')
        n--;
    if (memchr(text, '\0', n))
        return -EBADMSG;
    for (const char *end = text + n; text < end;) {
        const char *newline = memchr(text, '\n', (size_t) (end - text));
        size_t len = (size_t) ((newline ? newline : end) - text);
        for (size_t i = 0; i < ELEMENTS(keys); i++) {
            size_t k = strlen(keys[i].key);
            if (len >= k && memcmp(text, keys[i].key, k) == 0)
                keys[i].read(ret, text + k, len - k);
        }
        text += len + (newline != NULL);
    }
    return 0;
}

/* ---- what it says ---- */

/* As much of it as is kept, made fit for a line. */
static void set_status(Notify *n, const char *text, size_t len) {
    _cleanup_(buf_done) Buf clean = {};

    utf8_add(&clean, text, MIN(len, (size_t) NOTIFY_STATUS_MAX));
    if (buf_error(&clean) < 0)
        return;
    len = len > 0 ? utf8_whole(clean.data, MIN(clean.len, (size_t) NOTIFY_STATUS_MAX)) : 0;
    for (size_t i = 0; i < len; i++)
        n->status[i] = (unsigned char) clean.data[i] < ' ' || clean.data[i] == '\x7f' ? ' ' : clean.data[i];
    n->status[len] = '\0';
}

static void take(Notify *n, const NotifyMessage *m) {
    if (m->alive)
        n->alive_at = time_now_monotonic();
    if (m->progress >= 0)
        n->progress = m->progress;
    if (m->status)
        set_status(n, m->status, m->status_len);
    if (m->progress >= 0 || m->status) {
        n->said = n->spoke = true;
        n->events->said(n->userdata);
    }
    if (!n->io)
        return; /* its program has ended: only words count */
    if (m->extend_usec > 0)
        n->events->extend(m->extend_usec, n->userdata);
    if (m->trigger)
        n->events->lost(n->userdata);
}

/* False: there was none. There is no room for descriptors in this call, so the kernel closes those that come along. */
static bool receive(Notify *n) {
    char text[NOTIFY_MESSAGE_MAX];
    NotifyMessage m;

    ssize_t len = recv(n->fd, text, sizeof(text), MSG_TRUNC);
    if (len < 0)
        return false;
    if ((size_t) len <= sizeof(text) && notify_parse(text, (size_t) len, &m) >= 0)
        take(n, &m);
    return true;
}

static void drain(Notify *n) {
    for (int i = 0; i < DRAIN_MAX && receive(n); i++)
        ;
}

static int on_message(
    _unused_ sd_event_source *s, _unused_ int fd, _unused_ uint32_t revents, void *userdata) {
    (void) receive(userdata);
    return 0;
}

/* ---- the watchdog ---- */

static int watchdog_set(Notify *n) {
    if (!n->timer || n->held_at > 0)
        return 0;
    int r = sd_event_source_set_time(n->timer, n->alive_at + n->watchdog_usec);
    return r < 0 ? r : sd_event_source_set_enabled(n->timer, SD_EVENT_ONESHOT);
}

/* What has been said but not been read counts: it may be the worker that was late. */
static int on_watchdog(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
    Notify *n = userdata;

    drain(n);
    if (time_now_monotonic() - n->alive_at < n->watchdog_usec)
        return watchdog_set(n);
    n->events->lost(n->userdata);
    return 0;
}

void notify_hold(Notify *n, bool hold) {
    if (!n || hold == (n->held_at > 0))
        return;
    if (hold) {
        n->held_at = time_now_monotonic();
        if (n->timer)
            (void) sd_event_source_set_enabled(n->timer, SD_EVENT_OFF);
        return;
    }
    n->alive_at += time_now_monotonic() - n->held_at;
    n->held_at = 0;
    (void) watchdog_set(n);
}

/* ---- its life ---- */

static int open_socket(Notify *n, const char *path) {
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    if (strlen(path) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path) + 1);
    n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (n->fd < 0)
        return -errno;
    if (bind(n->fd, (const struct sockaddr *) &address, sizeof(address)) < 0)
        return -errno;
    return string_replace(&n->path, path);
}

int notify_new(Notify **ret, sd_event *event, const char *path, uint64_t watchdog_usec,
    const NotifyEvents *events, void *userdata) {
    Notify *n = calloc(1, sizeof(Notify));

    if (!n)
        return -ENOMEM;
    *n = (Notify){ .fd = -EBADF,
        .watchdog_usec = watchdog_usec,
        .alive_at = time_now_monotonic(),
        .progress = -1,
        .events = events,
        .userdata = userdata };
    int r = open_socket(n, path);
    if (r >= 0)
        r = sd_event_add_io(event, &n->io, n->fd, EPOLLIN, on_message, n);
    if (r >= 0)
        r = sd_event_source_set_priority(n->io, BEHIND_THE_TURN);
    if (r >= 0 && watchdog_usec != UINT64_MAX)
        r = sd_event_add_time(event, &n->timer, CLOCK_MONOTONIC, n->alive_at + watchdog_usec,
            10 * USEC_PER_MSEC, on_watchdog, n);
    if (r < 0) {
        notify_free(n);
        return r;
    }
    *ret = n;
    return 0;
}

const char *notify_path(const Notify *n) {
    return n->path;
}

static void shut(Notify *n) {
    n->timer = sd_event_source_disable_unref(n->timer);
    n->io = sd_event_source_disable_unref(n->io);
    n->fd = close_fd(n->fd);
    if (n->path)
        (void) unlink(n->path);
    n->path = (free(n->path), NULL);
}

void notify_close(Notify *n) {
    if (!n || !n->io)
        return;
    n->io = sd_event_source_disable_unref(n->io);
    drain(n);
    shut(n);
}

Notify *notify_free(Notify *n) {
    if (n)
        shut(n);
    free(n);
    return NULL;
}

bool notify_said(const Notify *n, double *ret_progress, const char **ret_status) {
    *ret_progress = n->progress;
    *ret_status = n->status;
    return n->said;
}

void notify_told(Notify *n, bool told) {
    n->said = !told && n->spoke;
}
