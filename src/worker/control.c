/* SPDX-License-Identifier: MIT */
#include "worker/control.h"

#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/json.h"
#include "base/local.h"
#include "base/log.h"
#include "base/outbox.h"
#include "base/service.h"
#include "base/time.h"
#include "worker/core.h"

#define PIECES 16 /* lines handed over at once */

typedef struct Peer {
    Control *control;
    int fd;
    sd_event_source *io;
    char in[CONTROL_LINE_MAX + 1];
    size_t in_len;
    Outbox out;
    bool follows, closing; /* reads the log; to be ended once it has read everything */
    bool deaf;             /* says nothing more */
    uint64_t dropped;      /* lines since the last one that found room */
} Peer;

struct Control {
    Worker *worker;
    int fd;
    sd_event_source *io;
    Peer *peers[CONTROL_PEERS_MAX];
    size_t n_peers, n_followers;
};

static void on_log(const LogTask *task, int level, const char *text, size_t len, void *userdata);

static void peer_end(Peer *p) {
    Control *c = p->control;

    for (size_t i = 0; i < c->n_peers; i++)
        if (c->peers[i] == p)
            c->peers[i] = c->peers[--c->n_peers];
    c->n_followers -= p->follows;
    if (c->n_followers == 0)
        log_set_tap(NULL, NULL);
    sd_event_source_disable_unref(p->io);
    (void) close_fd(p->fd);
    outbox_done(&p->out);
    free(p);
}

/* ---- what is said ---- */

static void add_member(Buf *b, const char *name, const char *value) {
    buf_printf(b, ", \"%s\": ", name);
    if (value)
        json_write_string(b, value, strlen(value));
    else
        buf_puts(b, "null");
}

static void add_list(Buf *b, const char *name, char *const *list) {
    buf_printf(b, ", \"%s\": [", name);
    for (size_t i = 0; list[i]; i++) {
        buf_puts(b, i > 0 ? ", " : "");
        json_write_string(b, list[i], strlen(list[i]));
    }
    buf_putc(b, ']');
}

/* Handlers whose programs cannot begin here, and why. */
static void add_resting(Buf *b, const Handlers *handlers) {
    const char *separator = "";

    buf_puts(b, ", \"resting\": {");
    for (size_t i = 0; i < handlers->n; i++) {
        const Handler *h = handlers->list[i];
        if (h->rests == 0)
            continue;
        buf_printf(b, "%s\"%s\": ", separator, h->name);
        json_write_string(b, h->rest_why ? h->rest_why : "", h->rest_why ? strlen(h->rest_why) : 0);
        separator = ", ";
    }
    buf_putc(b, '}');
}

static void add_run(Buf *b, const Run *run) {
    const uint64_t ran = time_now_monotonic() - run->started;
    const char *text = "";
    double progress = -1;
    char since[TIME_TEXT_SIZE];

    if (run->notify)
        (void) notify_said(run->notify, &progress, &text);
    buf_printf(b, "{\"id\": \"%s\"", run->id_text);
    add_member(b, "name", run->name);
    add_member(b, "queue", run->queue);
    buf_printf(b, ", \"attempt\": %u", run->attempt);
    add_member(b, "state", run->stopping ? "ending" : run->frozen ? "paused" : "running");
    add_member(b, "since", time_format(time_now() - (int64_t) ran, since));
    buf_printf(b, ", \"seconds\": %.3f", (double) ran / 1e6);
    if (progress >= 0)
        buf_printf(b, ", \"progress\": %g", progress);
    if (*text)
        add_member(b, "status_text", text);
    buf_putc(b, '}');
}

static void say_status(Peer *p, Buf *b) {
    const Worker *w = p->control->worker;
    const char *separator = "";

    buf_puts(b, "{\"name\": ");
    json_write_string(b, w->info.instance, strlen(w->info.instance));
    add_member(b, "id", w->registered ? ID_TEXT(w->info.id) : NULL);
    buf_printf(b, ", \"pid\": %d", (int) getpid());
    add_member(b, "version", PGMILL_VERSION);
    add_member(b, "state", w->draining ? "draining" : w->session ? "serving" : "waiting");
    add_member(b, "database", w->session ? "connected" : w->database_why ? w->database_why : "connecting");
    buf_printf(b, ", \"slots\": %ju, \"busy\": %zu", (uintmax_t) w->config.concurrency, room_busy(w));
    add_list(b, "queues", w->config.queues);
    add_resting(b, &w->handlers);
    buf_puts(b, ", \"tasks\": [");
    for (size_t i = 0; i < w->n_runs; i++)
        if (w->runs[i]->state == RUN_RUNNING) {
            buf_puts(b, separator);
            add_run(b, w->runs[i]);
            separator = ", ";
        }
    buf_puts(b, "]}\n");
}

static void say_log(Peer *p, Buf *b) {
    if (p->follows)
        return;
    p->follows = true;
    p->control->n_followers++;
    log_set_tap(on_log, p->control);
    buf_puts(b, "{\"following\": ");
    json_write_string(b, p->control->worker->info.instance, strlen(p->control->worker->info.instance));
    buf_puts(b, "}\n");
}

static void say_wake(Peer *p, Buf *b) {
    turn_notified(p->control->worker);
    buf_puts(b, "{\"done\": \"wake\"}\n");
}

static const struct {
    const char *word;
    void (*say)(Peer *p, Buf *b);
} words[] = {
    { "status", say_status },
    { "log", say_log },
    { "wake", say_wake },
};

static void say_unknown(Buf *b, const char *word, size_t n) {
    _cleanup_(buf_done) Buf text = {};

    buf_puts(&text, "\"");
    utf8_add(&text, word, n);
    buf_puts(&text, "\" is none of:");
    for (size_t i = 0; i < ELEMENTS(words); i++)
        buf_printf(&text, " %s", words[i].word);
    buf_puts(b, "{\"error\": ");
    json_write_string(b, text.data, text.len);
    buf_puts(b, "}\n");
}

static void say(Peer *p, const char *word, size_t n, Buf *b) {
    if (n > 0 && word[n - 1] == '\r')
        n--;
    for (size_t i = 0; i < ELEMENTS(words); i++)
        if (strlen(words[i].word) == n && memcmp(words[i].word, word, n) == 0) {
            words[i].say(p, b);
            return;
        }
    say_unknown(b, word, n);
}

/* < 0: the answer found no room. */
static int obey(Peer *p, const char *word, size_t n) {
    _cleanup_(buf_done) Buf answer = {};

    say(p, word, n, &answer);
    return outbox_put(&p->out, &answer);
}

/* ---- to and from a peer ---- */

/* Sends what can be sent now. < 0: nobody reads it. */
static int flush(Peer *p) {
    struct iovec pieces[PIECES];
    struct msghdr message = { .msg_iov = pieces };

    while ((message.msg_iovlen = outbox_pieces(&p->out, pieces, PIECES)) > 0) {
        ssize_t n = sendmsg(p->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n < 0 && errno != EINTR)
            return -errno;
        outbox_taken(&p->out, (size_t) MAX(n, 0));
        if (outbox_empty(&p->out) && p->dropped > 0) {
            _cleanup_(buf_done) Buf b = {};
            buf_printf(&b, "{\"dropped\": %ju}\n", (uintmax_t) p->dropped);
            p->dropped = 0;
            (void) outbox_put(&p->out, &b);
        }
    }
    return 0;
}

/* Obeys what was said, as long as the answers are taken. */
static void obey_all(Peer *p) {
    const char *newline;

    while (outbox_empty(&p->out) && !p->closing && (newline = memchr(p->in, '\n', p->in_len))) {
        const size_t n = (size_t) (newline - p->in);
        p->closing = obey(p, p->in, n) < 0;
        p->in_len -= n + 1;
        memmove(p->in, newline + 1, p->in_len);
        p->closing = flush(p) < 0 || p->closing;
    }
    if (p->in_len == sizeof(p->in) && !memchr(p->in, '\n', p->in_len)) {
        (void) obey(p, p->in, 16);
        p->closing = true;
    }
}

static int listen_to(Peer *p) {
    while (!p->deaf && !p->closing && outbox_empty(&p->out)) {
        ssize_t n = recv(p->fd, p->in + p->in_len, sizeof(p->in) - p->in_len, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : -errno;
        p->deaf = n == 0;
        if (p->deaf && p->in_len > 0)
            p->in[p->in_len + (size_t) n++] = '\n'; /* the end of what it says ends a line */
        p->in_len += (size_t) n;
        obey_all(p);
    }
    return 0;
}

static int on_peer(_unused_ sd_event_source *s, _unused_ int fd, uint32_t events, void *userdata) {
    Peer *p = userdata;

    int r = events & (EPOLLHUP | EPOLLERR) && p->follows ? -EPIPE : flush(p);
    if (r >= 0) {
        obey_all(p);
        r = listen_to(p);
    }
    if (r >= 0)
        r = flush(p);
    if (r < 0 || (outbox_empty(&p->out) && (p->closing || (p->deaf && !p->follows)))) {
        peer_end(p);
        return 0;
    }
    return sd_event_source_set_io_events(p->io, !outbox_empty(&p->out) ? EPOLLOUT : p->deaf ? 0 : EPOLLIN);
}

/* Within a call that logs: the peer is only sent to when the loop turns again, and never ended here. */
static void on_log(const LogTask *task, int level, const char *text, size_t len, void *userdata) {
    const Control *c = userdata;
    _cleanup_(buf_done) Buf line = {};
    char at[TIME_TEXT_SIZE];

    buf_printf(&line, "{\"at\": \"%s\", \"level\": %d", time_format(time_now(), at), level);
    add_member(&line, "name", task->name);
    add_member(&line, "task", task->id); /* null: of a program that has many */
    if (task->id) {
        add_member(&line, "queue", task->queue);
        buf_printf(&line, ", \"attempt\": %u", task->attempt);
    }
    buf_puts(&line, ", \"message\": ");
    json_write_string(&line, text, len);
    buf_puts(&line, "}\n");
    for (size_t i = 0; i < c->n_peers; i++) {
        Peer *p = c->peers[i];
        if (!p->follows)
            continue;
        _cleanup_(buf_done) Buf b = {};
        buf_add(&b, line.data, line.len);
        if (buf_error(&line) < 0 || p->dropped > 0 || outbox_put(&p->out, &b) < 0)
            p->dropped++;
        else
            (void) sd_event_source_set_io_events(p->io, EPOLLOUT);
    }
}

/* ---- the socket ---- */

static int peer_new(Control *c, int fd) {
    Peer *p = calloc(1, sizeof(Peer));

    if (!p)
        return -ENOMEM;
    *p = (Peer){ .control = c, .fd = fd, .out = { .max = CONTROL_OUT_MAX } };
    int r = sd_event_add_io(c->worker->event, &p->io, fd, EPOLLIN, on_peer, p);
    if (r < 0) {
        free(p);
        return r;
    }
    c->peers[c->n_peers++] = p;
    return 0;
}

static int on_connection(_unused_ sd_event_source *s, int fd, _unused_ uint32_t events, void *userdata) {
    static const char full[] = "{\"error\": \"too many connections\"}\n";
    Control *c = userdata;

    _cleanup_(closep) int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (peer < 0)
        return 0; /* it went away again, or there is no descriptor: tried again at the next turn */
    if (c->n_peers == CONTROL_PEERS_MAX)
        (void) send(peer, full, strlen(full), MSG_NOSIGNAL | MSG_DONTWAIT);
    else if (peer_new(c, peer) >= 0)
        TAKE_FD(peer);
    return 0;
}

int control_new(Control **ret, Worker *w) {
    int passed = service_listen_fds();

    *ret = NULL;
    int r = local_hold(w->info.instance);
    if (r < 0)
        (void) log_warning_errno(r, "\"pgmill local\" will not see that this runs: %m");
    if (passed <= 0)
        return passed;
    if (passed > 1 || !service_is_listening(SERVICE_LISTEN_FD, AF_UNIX)) {
        log_error(
            "A worker takes one listening Unix socket from the service manager, and no other descriptors");
        return -EBADMSG;
    }
    Control *c = calloc(1, sizeof(Control));
    if (!c)
        return -ENOMEM;
    *c = (Control){ .worker = w, .fd = SERVICE_LISTEN_FD };
    r = sd_event_add_io(w->event, &c->io, c->fd, EPOLLIN, on_connection, c);
    if (r < 0) {
        control_free(c);
        return r;
    }
    *ret = c;
    return 0;
}

Control *control_free(Control *c) {
    if (!c)
        return NULL;
    while (c->n_peers > 0)
        peer_end(c->peers[0]);
    sd_event_source_disable_unref(c->io);
    (void) close_fd(c->fd);
    free(c);
    return NULL;
}

bool control_followed(const Control *c) {
    return c && c->n_followers > 0;
}
