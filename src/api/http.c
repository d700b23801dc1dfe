/* SPDX-License-Identifier: MIT */
/*
 * Requests and their answers. A request whose answer comes later is suspended; libmicrohttpd then leaves its
 * connection alone until it is resumed, so a client that goes away in between is noticed only after the answer, and
 * http_on_completed() is the one place that frees.
 */
#include "api/http.h"

#include <poll.h>
#include <strings.h>
#include <sys/socket.h>

#include "api/http_parts.h"

#define BODIES_MAX    (64U * 1024 * 1024) /* bytes of all bodies being received, four of the longest at least */
#define REPLIES_MAX   (64U * 1024 * 1024) /* bytes of all answers that are on their way; then slow readers go */
#define REPLY_SMALL   4096                /* answers that are given even then */
#define STREAM_BLOCK  4096                /* bytes pulled at once */
#define STREAM_BUFFER (64 * 1024) /* the kernel's for a stream; it would hold megabytes for a slow reader */
/* Of a body that is too long, or twice its limit: read on, so that the client reads 413. */
#define DISCARD_MAX ((size_t) 8 * 1024 * 1024)

/* ---- requests ---- */

static void body_drop(HttpRequest *r) {
    r->listener->server->body_bytes -= r->body.size;
    buf_done(&r->body);
}

static HttpRequest *request_new(Listener *l, struct MHD_Connection *connection) {
    HttpRequest *r = calloc(1, sizeof(HttpRequest));
    HttpServer *s = l->server;

    if (!r)
        return NULL;
    r->listener = l;
    r->connection = connection;
    r->next = s->requests;
    if (r->next)
        r->next->previous = r;
    s->requests = r;
    s->active++;
    return r;
}

static void release(HttpRequest *r) {
    if (r->held)
        r->released(TAKE_PTR(r->held));
}

static void request_free(HttpRequest *r) {
    HttpServer *s = r->listener->server;

    release(r);
    body_drop(r);
    s->reply_bytes -= r->reply_bytes;
    free(r->client);
    free(r->authority);
    if (r->response)
        MHD_destroy_response(r->response);
    if (r->previous)
        r->previous->next = r->next;
    else
        s->requests = r->next;
    if (r->next)
        r->next->previous = r->previous;
    free(r);
    s->active--;
    http_drained_maybe(s);
}

static enum MHD_Result queue_response(HttpRequest *r) {
    enum MHD_Result queued = MHD_queue_response(r->connection, r->status, r->response);

    MHD_destroy_response(TAKE_PTR(r->response)); /* libmicrohttpd counts its own reference */
    deadline_next(&r->guest->deadline, DEADLINE_REPLY);
    return queued;
}

static bool receive(HttpRequest *r, const char *data, size_t n) {
    HttpServer *s = r->listener->server;
    size_t before = r->body.size;

    deadline_moved(&r->guest->deadline, n);
    if (r->discarding)
        return true;
    if (n > r->body_max - r->body.len) {
        r->too_long = r->discarding = true;
        body_drop(r);
        return true;
    }
    if (s->body_bytes + n > MAX((size_t) BODIES_MAX, 4 * s->limits.body_max)) {
        body_drop(r);
        (void) deadlines_yield(&s->deadlines, 1U << DEADLINE_BODY); /* there is room for the next one */
        s->events->refuse(r, MHD_HTTP_SERVICE_UNAVAILABLE, s->userdata);
        return true;
    }
    buf_add(&r->body, data, n);
    s->body_bytes += r->body.size - before;
    return buf_error(&r->body) >= 0;
}

/* What only one of can be meant. Somebody before or behind us may take another one than we do. */
static const char *const single[] = { "Host", "Content-Length", "Transfer-Encoding", "Content-Type",
    "Content-Encoding", "Authorization", "Idempotency-Key", "Last-Event-ID" };

typedef struct Framing {
    bool seen[ELEMENTS(single)];
    const char *repeated;
} Framing;

static enum MHD_Result on_header(
    void *userdata, _unused_ enum MHD_ValueKind kind, const char *name, _unused_ const char *value) {
    Framing *f = userdata;

    for (size_t i = 0; i < ELEMENTS(single); i++) {
        if (strcasecmp(name, single[i]) != 0)
            continue;
        if (f->seen[i])
            f->repeated = single[i];
        f->seen[i] = true;
    }
    return MHD_YES;
}

/* RFC 9110, section 5.3, and RFC 9112, section 6.3. */
static bool is_ambiguous(HttpRequest *r) {
    const char *coding = http_header(r, "Transfer-Encoding");
    Framing f = {};

    (void) MHD_get_connection_values(r->connection, MHD_HEADER_KIND, on_header, &f);
    r->repeated = f.repeated;
    return f.repeated || (coding && (http_header(r, "Content-Length") || strcasecmp(coding, "chunked") != 0));
}

/* The header is there. Answers that need not wait for the body, because it is long or the client asked, are given at
 * once; libmicrohttpd closes the connection behind them. */
static enum MHD_Result request_begin(HttpRequest *r) {
    HttpServer *s = r->listener->server;
    const char *length = http_header(r, "Content-Length");
    bool at_once = http_header(r, "Expect") != NULL;
    uint64_t announced = 0;

    deadline_next(&r->guest->deadline, DEADLINE_BODY);
    if (length && parse_uint(length, UINT64_MAX, &announced) < 0)
        announced = UINT64_MAX;
    if (is_ambiguous(r)) {
        s->events->refuse(r, MHD_HTTP_BAD_REQUEST, s->userdata);
        at_once = true;
    } else
        s->events->begin(r, s->userdata);
    bool too_long = announced > r->body_max, answered = r->discarding;
    at_once |= announced > MAX(DISCARD_MAX, 2 * r->body_max);
    if (!answered && too_long) {
        if (at_once)
            s->events->refuse(r, MHD_HTTP_CONTENT_TOO_LARGE, s->userdata);
        else
            r->too_long = r->discarding = true;
    }
    if (r->failed)
        return MHD_NO;
    if (r->response && at_once)
        return queue_response(r);
    return MHD_YES;
}

/* The body is there too. Who has no answer by then gets it later. */
static enum MHD_Result request_complete(HttpRequest *r) {
    HttpServer *s = r->listener->server;

#if MHD_VERSION < 0x01001000
    /* Before 1.0.10, a connection that is resumed goes on with what it waited for when it was suspended, and that was
     * reading: a client that has sent all it will ever send is taken for one that is gone. But one that is suspended
     * when it comes here for the second time waits for nothing. */
    if (!r->again) {
        r->again = true;
        return MHD_YES;
    }
#endif
    r->received = true;
    deadline_next(&r->guest->deadline, DEADLINE_WORK);
    if (r->too_long)
        s->events->refuse(r, MHD_HTTP_CONTENT_TOO_LARGE, s->userdata);
    else if (!r->response)
        r->then(r, r->what, s->userdata);
    body_drop(r);
    if (r->failed)
        return MHD_NO;
    if (r->response)
        return queue_response(r);
    r->suspended = true;
    MHD_suspend_connection(r->connection);
    return MHD_YES;
}

/* RFC 9112, section 3.2.2: "http://localhost:8000/healthz" is "/healthz" at that host, whatever Host says. */
static int read_target(HttpRequest *r, const char *url) {
    static const char *const schemes[] = { "http://", "https://" };

    r->path = url;
    for (size_t i = 0; i < ELEMENTS(schemes); i++) {
        size_t n = strlen(schemes[i]);
        if (strncasecmp(url, schemes[i], n) != 0)
            continue;
        r->path = url + n + strcspn(url + n, "/");
        r->authority = strndup(url + n, (size_t) (r->path - url) - n);
        return r->authority ? 0 : -ENOMEM;
    }
    return 0;
}

enum MHD_Result http_on_access(void *userdata, struct MHD_Connection *connection, const char *url,
    const char *method, _unused_ const char *version, const char *data, size_t *size, void **state) {
    Listener *l = userdata;
    HttpRequest *r = *state;

    if (l->server->closing || (r && (r->failed || r->received)))
        return MHD_NO; /* resumed without an answer: there was no memory for one, or no time */
    if (!r) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
        if (!info || !info->socket_context || !(r = request_new(l, connection)))
            return MHD_NO;
        *state = r;
        r->body_max = l->server->limits.body_max;
        r->guest = info->socket_context;
        r->method = method;
        return read_target(r, url) < 0 ? MHD_NO : request_begin(r);
    }
    if (*size > 0) {
        bool alive = receive(r, data, *size);
        *size = 0;
        return alive && !r->failed ? MHD_YES : MHD_NO;
    }
    return request_complete(r);
}

void http_on_completed(_unused_ void *userdata, _unused_ struct MHD_Connection *connection, void **state,
    _unused_ enum MHD_RequestTerminationCode code) {
    HttpRequest *r = *state;

    if (!r)
        return;
    *state = NULL;
    deadline_next(&r->guest->deadline, DEADLINE_IDLE);
    if (r->stream)
        r->stream->closed(r, r->stream_userdata);
    request_free(r);
}

/* ---- what it says ---- */

const char *http_method(const HttpRequest *r) {
    return r->method;
}

const char *http_path(const HttpRequest *r) {
    return r->path;
}

const char *http_header(const HttpRequest *r, const char *name) {
    return MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, name);
}

const char *http_host(const HttpRequest *r) {
    return r->authority ? r->authority : http_header(r, "Host");
}

const char *http_repeated(const HttpRequest *r) {
    return r->repeated;
}

bool http_peer_is_done(const HttpRequest *r) {
    struct pollfd p = {
        .fd = MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd,
        .events = POLLRDHUP
    };

    return poll(&p, 1, 0) > 0;
}

const char *http_base(const HttpRequest *r) {
    return r->listener->server->limits.base;
}

bool http_is_local(const HttpRequest *r) {
    return r->listener->local;
}

bool http_is_crowded(const HttpRequest *r) {
    return r->guest->crowded;
}

void http_set_body_max(HttpRequest *r, size_t bytes) {
    r->body_max = bytes;
}

size_t http_body_max(const HttpRequest *r) {
    return r->body_max;
}

int http_set_client(HttpRequest *r, const char *name) {
    return string_replace(&r->client, name);
}

const char *http_client(const HttpRequest *r) {
    return r->client ? r->client : "";
}

typedef struct Each {
    HttpEach call;
    void *userdata;
} Each;

static enum MHD_Result on_parameter(
    void *userdata, _unused_ enum MHD_ValueKind kind, const char *name, const char *value) {
    const Each *each = userdata;

    return each->call(each->userdata, name, value) ? MHD_YES : MHD_NO;
}

void http_query(const HttpRequest *r, HttpEach call, void *userdata) {
    (void) MHD_get_connection_values(
        r->connection, MHD_GET_ARGUMENT_KIND, on_parameter, &(Each){ call, userdata });
}

void http_hold(HttpRequest *r, void *what, void (*released)(void *what)) {
    r->held = what;
    r->released = released;
}

void *http_held(const HttpRequest *r) {
    return r->held;
}

void http_then(HttpRequest *r, HttpThen then, const void *what) {
    r->then = then;
    r->what = what;
}

const char *http_body(const HttpRequest *r, size_t *ret_len) {
    *ret_len = r->body.len;
    return r->body.data ? r->body.data : "";
}

/* ---- answers ---- */

/* headers: NULL, or ended by an empty one. Those that but has too are left out. */
static bool add_headers(struct MHD_Response *response, const HttpHeader headers[], const HttpHeader but[]) {
    for (; headers && headers->name; headers++) {
        const HttpHeader *own = but;
        while (own && own->name && strcasecmp(own->name, headers->name) != 0)
            own++;
        if ((!own || !own->name) &&
            MHD_add_response_header(response, headers->name, headers->value) != MHD_YES)
            return false;
    }
    return true;
}

static struct MHD_Response *response_of_body(Buf *body) {
    struct MHD_Response *response;

    if (body && buf_error(body) < 0)
        return NULL;
    if (!body || body->len == 0)
        return MHD_create_response_from_buffer(0, (char[]){ "" }, MHD_RESPMEM_PERSISTENT);
    response = MHD_create_response_from_buffer(body->len, body->data, MHD_RESPMEM_MUST_FREE);
    if (response)
        *body = (Buf){};
    return response;
}

/* Takes response over; NULL: there was no memory for it. */
static void give(HttpRequest *r, unsigned status, const char *type, const HttpHeader headers[],
    struct MHD_Response *response) {
    const HttpServer *s = r->listener->server;
    const HttpHeader typed[] = { { type ? "Content-Type" : NULL, type }, {} };
    const HttpHeader last[] = { { s->drained || r->guest->crowded ? "Connection" : NULL, "close" }, {} };

    if (response &&
        !(add_headers(response, typed, NULL) && add_headers(response, headers, NULL) &&
            add_headers(response, s->events->headers, headers) && add_headers(response, last, NULL))) {
        MHD_destroy_response(response);
        response = NULL;
    }
    release(r);
    r->response = response;
    r->status = status;
    r->failed = !response;
    r->discarding = true;
    if (!r->suspended)
        return; /* request_begin() or request_complete() sees it */
    if (response)
        (void) queue_response(r);
    r->suspended = false;
    MHD_resume_connection(r->connection);
    http_listener_kick(r->listener);
}

/* Slow readers keep others' answers out of memory. The slowest one goes; and what can be asked for again is, until
 * there is room. False: that happened. */
static bool make_room(HttpRequest *r, size_t bytes) {
    HttpServer *s = r->listener->server;

    if (s->reply_bytes + bytes <= REPLIES_MAX || bytes <= REPLY_SMALL)
        return true;
    if (deadlines_yield(&s->deadlines, 1U << DEADLINE_REPLY) || !streq(r->method, "GET"))
        return true;
    s->events->refuse(r, MHD_HTTP_SERVICE_UNAVAILABLE, s->userdata);
    return false;
}

void http_answer(HttpRequest *r, unsigned status, const char *type, const HttpHeader headers[], Buf *body) {
    size_t bytes = body ? body->len : 0;

    if (!make_room(r, bytes))
        return buf_done(body);
    struct MHD_Response *response = response_of_body(body);
    r->reply_bytes = response ? bytes : 0;
    r->listener->server->reply_bytes += r->reply_bytes;
    if (body)
        buf_done(body);
    give(r, status, type, headers, response);
}

void http_answer_static(HttpRequest *r, unsigned status, const char *type, const HttpHeader headers[],
    const char *body, size_t len) {
    give(r, status, type, headers,
        MHD_create_response_from_buffer(len, (char *) body, MHD_RESPMEM_PERSISTENT));
}

/* ---- streams ---- */

/* A reader that is slow has half a minute for what it was given last, one that has all of it any time. */
static ssize_t on_pull(void *userdata, _unused_ uint64_t position, char *buf, size_t size) {
    HttpRequest *r = userdata;

    if (r->ending || r->listener->server->closing)
        return MHD_CONTENT_READER_END_OF_STREAM;
    size_t n = r->stream->pull(r, r->stream_userdata, buf, size);
    deadline_next(&r->guest->deadline, n > 0 ? DEADLINE_REPLY : DEADLINE_WORK);
    if (n == 0) {
        r->suspended = true;
        MHD_suspend_connection(r->connection);
    }
    return (ssize_t) n;
}

void http_answer_stream(
    HttpRequest *r, const char *type, const HttpHeader headers[], const HttpStream *stream, void *userdata) {
    r->stream = stream;
    r->stream_userdata = userdata;
    (void) setsockopt(r->guest->deadline.fd, SOL_SOCKET, SO_SNDBUF, &(int){ STREAM_BUFFER }, sizeof(int));
    give(r, MHD_HTTP_OK, type, headers,
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, on_pull, r, NULL));
}

void http_wake(HttpRequest *r) {
    if (!r->suspended)
        return; /* it is still taking what there is, and will ask for more */
    r->suspended = false;
    deadline_next(&r->guest->deadline, DEADLINE_REPLY);
    MHD_resume_connection(r->connection);
    http_listener_kick(r->listener);
}

void http_stream_end(HttpRequest *r) {
    r->ending = true;
    http_wake(r);
}

/* Clients of streams connect again by themselves. */
void http_streams_end(HttpServer *s) {
    for (HttpRequest *r = s->requests; r; r = r->next)
        if (r->stream)
            http_stream_end(r);
}
