/* SPDX-License-Identifier: MIT */
/*
 * One libmicrohttpd daemon for each listening socket, its epoll descriptor in the loop; and who may come in.
 */
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "api/http_parts.h"
#include "base/log.h"

#define CONNECTION_MEMORY (16U * 1024)          /* bounds a request's header; longer ones get 431 */
#define QUIET_USEC        (100 * USEC_PER_MSEC) /* without a request: drained, although connections are open */

/* ---- the loop ---- */

/* Nobody else would run the daemon for a resumed connection: no descriptor becomes ready by that. */
void http_listener_kick(Listener *l) {
    (void) sd_event_source_set_enabled(l->defer, SD_EVENT_ONESHOT);
}

static void arm(Listener *l) {
    MHD_UNSIGNED_LONG_LONG msec;
    bool later = false;

    if (MHD_get_timeout(l->daemon, &msec) == MHD_YES) {
        if (msec == 0)
            return http_listener_kick(l);
        later = sd_event_source_set_time_relative(l->timer, msec * USEC_PER_MSEC) >= 0;
    }
    (void) sd_event_source_set_enabled(l->timer, later ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

static void turn(Listener *l) {
    (void) MHD_run(l->daemon);
    l->server->events->turned(l->server->userdata);
    arm(l);
}

static int on_io(_unused_ sd_event_source *s, _unused_ int fd, _unused_ uint32_t revents, void *userdata) {
    turn(userdata);
    return 0;
}

static int on_timer(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
    turn(userdata);
    return 0;
}

static int on_defer(_unused_ sd_event_source *s, void *userdata) {
    turn(userdata);
    return 0;
}

/* A connection that is idle now may have its next request on the wire: cutting it at once would lose that. */
void http_drained_maybe(HttpServer *s) {
    if (!s->drained || s->active > 0)
        return;
    if (sd_event_source_set_time_relative(s->drained, s->deadlines.count > 0 ? QUIET_USEC : 0) >= 0)
        (void) sd_event_source_set_enabled(s->drained, SD_EVENT_ONESHOT);
}

static int on_drained(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
    HttpServer *server = userdata;

    if (server->active == 0)
        server->events->drained(server->userdata);
    return 0;
}

/* ---- connections ---- */

/* A new one comes in; whoever keeps others waiting for longest makes room, if need be. */
static Connection *connection_new(Listener *l, struct MHD_Connection *connection) {
    HttpServer *s = l->server;
    int fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *address = info ? info->client_addr : NULL;
    Connection *c = calloc(1, sizeof(Connection));

    if (!c || (address && admission_enter(&s->admission, address, &c->address) < 0)) {
        (void) shutdown(fd, SHUT_RDWR);
        free(c);
        return NULL;
    }
    c->server = s;
    deadline_begin(&s->deadlines, &c->deadline, fd);
    if (!deadlines_make_room(&s->deadlines)) {
        c->crowded = true;
        s->events->crowded(NULL, s->userdata);
    }
    return c;
}

/* Its first line is there. */
static void *on_line(
    _unused_ void *userdata, _unused_ const char *target, struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    Connection *c = info ? info->socket_context : NULL;

    if (c)
        deadline_next(&c->deadline, DEADLINE_HEADER);
    return NULL; /* the request's state, which http_on_access() makes */
}

/* By hand, since libmicrohttpd takes no answer before the request is whole; it has written nothing since the last one.
 * A client that has sent nothing is told nothing, as it would take that for the answer to its next request. */
static void on_late(const Deadline *d) {
    const Connection *c = (const Connection *) d;
    _cleanup_(buf_done) Buf body = {}, text = {};

    if (d->part != DEADLINE_HEADER && d->part != DEADLINE_BODY)
        return;
    c->server->events->late(&body);
    buf_puts(&text, "HTTP/1.1 408 Request Timeout\r\nContent-Type: application/problem+json\r\n");
    for (const HttpHeader *h = c->server->events->headers; h && h->name; h++)
        buf_printf(&text, "%s: %s\r\n", h->name, h->value);
    buf_printf(&text, "Content-Length: %zu\r\nConnection: close\r\n\r\n", body.len);
    buf_add(&text, body.data, body.len);
    if (buf_error(&body) >= 0 && buf_error(&text) >= 0)
        (void) send(d->fd, text.data, text.len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void on_connection(void *userdata, struct MHD_Connection *connection, void **context,
    enum MHD_ConnectionNotificationCode code) {
    Listener *l = userdata;
    Connection *c = *context;

    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        *context = connection_new(l, connection);
    else if (c) {
        /* libmicrohttpd, which accepts none at its limit, or after it had no descriptor for one, takes that up again when it
         * is run next. */
        http_listener_kick(l);
        deadline_end(&c->deadline);
        admission_leave(&l->server->admission, c->address);
        free(c);
        *context = NULL;
        http_drained_maybe(l->server);
    }
}

/* Refused are those of an address that has its share, and those that would be too many together with the other
 * listening sockets' ones; too many of one socket wait in its queue. */
static enum MHD_Result on_accept(void *userdata, const struct sockaddr *address, _unused_ socklen_t len) {
    HttpServer *s = userdata;
    char text[ADMISSION_TEXT_SIZE];

    if (!admission_allows(&s->admission, address))
        s->events->crowded(admission_text(address, text), s->userdata);
    else if (deadlines_open(&s->deadlines) >= s->limits.connections_max)
        s->events->crowded(NULL, s->userdata);
    else
        return MHD_YES;
    return MHD_NO;
}

/* Paths stay as they were written: who splits them at '/' decodes the pieces. */
static size_t on_unescape(_unused_ void *userdata, _unused_ struct MHD_Connection *connection, char *s) {
    return strlen(s);
}

static void on_log(_unused_ void *userdata, const char *format, va_list ap) {
    char line[256];

    (void) vsnprintf(line, sizeof(line), format, ap);
    line[strcspn(line, "\n")] = '\0';
    log_debug("libmicrohttpd: %s", line);
}

/* ---- server ---- */

int http_server_new(
    HttpServer **ret, sd_event *event, const HttpEvents *events, HttpLimits limits, void *userdata) {
    _cleanup_(http_server_freep) HttpServer *s = calloc(1, sizeof(HttpServer));

    if (!s)
        return -ENOMEM;
    s->event = sd_event_ref(event);
    s->events = events;
    s->limits = limits;
    s->admission.address_max = limits.address_connections_max;
    s->userdata = userdata;
    size_t reserve = MIN(limits.connections_max / 20, (size_t) 100); /* for those who only ask how we are */
    int r = deadlines_init(&s->deadlines, event, on_late, limits.connections_max, reserve);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(s);
    return 0;
}

void http_server_set_limits(HttpServer *s, HttpLimits limits) {
    limits.connections_max = s->limits.connections_max;
    s->limits = limits;
    s->admission.address_max = limits.address_connections_max;
}

static void listener_close(Listener *l) {
    (void) MHD_quiesce_daemon(l->daemon); /* else MHD_stop_daemon() would close the socket itself */
    l->fd = close_fd(l->fd);
}

static void listener_free(Listener *l) {
    sd_event_source_disable_unref(l->io); /* before its descriptor is closed */
    if (l->daemon) {
        listener_close(l);
        for (unsigned i = 0; i < 3; i++)
            (void) MHD_run(l->daemon); /* resumed connections send what they have */
        MHD_stop_daemon(l->daemon);
    }
    sd_event_source_disable_unref(l->timer); /* connections that ended just now have kicked */
    sd_event_source_disable_unref(l->defer);
    free(l);
}

static struct MHD_Daemon *daemon_start(Listener *l) {
    const unsigned flags =
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG | MHD_USE_NO_THREAD_SAFETY;
    unsigned most = (unsigned) l->server->limits.connections_max;
    return MHD_start_daemon(flags, 0, on_accept, l->server, http_on_access, l, MHD_OPTION_EXTERNAL_LOGGER,
        on_log, NULL, /* first, or it misses what comes before it */
        MHD_OPTION_LISTEN_SOCKET, l->fd, MHD_OPTION_CONNECTION_LIMIT, most,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t) CONNECTION_MEMORY, MHD_OPTION_NOTIFY_CONNECTION,
        on_connection, l, MHD_OPTION_NOTIFY_COMPLETED, http_on_completed, NULL, MHD_OPTION_UNESCAPE_CALLBACK,
        on_unescape, NULL, MHD_OPTION_URI_LOG_CALLBACK, on_line, NULL, MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_END);
}

int http_server_listen(HttpServer *s, int fd, bool local) {
    Listener *l = calloc(1, sizeof(Listener));
    int r = -ENOMEM;

    if (!l)
        return r;
    *l = (Listener){ .server = s, .fd = fd, .local = local };
    l->daemon = daemon_start(l);
    if (l->daemon) {
        int epoll = MHD_get_daemon_info(l->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
        r = sd_event_add_io(s->event, &l->io, epoll, EPOLLIN, on_io, l);
    }
    /* The accuracy must be said: sd-event's default would make each wait up to 250 ms longer. */
    if (r >= 0)
        r = sd_event_add_time_relative(s->event, &l->timer, CLOCK_MONOTONIC, 0, 1, on_timer, l);
    if (r >= 0)
        r = sd_event_add_defer(s->event, &l->defer, on_defer, l); /* and run it once, which arms the rest */
    if (r < 0) {
        l->fd = -EBADF; /* the caller keeps it */
        listener_free(l);
        return r;
    }
    l->next = s->listeners;
    s->listeners = l;
    return 0;
}

void http_server_drain(HttpServer *s) {
    http_streams_end(s);
    for (Listener *l = s->listeners; l; l = l->next) {
        turn(l); /* whoever is in its queue would be cut off */
        listener_close(l);
    }
    if (!s->drained &&
        sd_event_add_time_relative(s->event, &s->drained, CLOCK_MONOTONIC, QUIET_USEC, 1, on_drained, s) >= 0)
        http_drained_maybe(s);
}

size_t http_server_active(const HttpServer *s) {
    return s->active;
}

HttpServer *http_server_free(HttpServer *s) {
    if (!s)
        return NULL;
    s->closing = true;
    for (HttpRequest *r = s->requests; r; r = r->next)
        if (r->suspended) { /* libmicrohttpd must not be stopped while one is */
            r->suspended = false;
            MHD_resume_connection(r->connection);
        }
    while (s->listeners) {
        Listener *l = s->listeners;
        s->listeners = l->next;
        listener_free(l);
    }
    deadlines_done(&s->deadlines);
    sd_event_source_disable_unref(s->drained);
    sd_event_unref(s->event);
    free(s);
    return NULL;
}

void http_server_freep(HttpServer **s) {
    http_server_free(*s);
}
