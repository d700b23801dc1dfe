/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * An HTTP/1.1 server inside an sd-event loop: bytes in, requests out, answers in. http.c and http_server.c are the
 * only files that know libmicrohttpd. Knows nothing of paths, tasks or JSON.
 *
 * What cannot be read as HTTP at all is answered by libmicrohttpd's own short pages (400, 413, 414, 431, 501, 505),
 * without any header of ours.
 */
#include <systemd/sd-event.h>

#include "base/util.h"

typedef struct HttpServer HttpServer;
typedef struct HttpRequest HttpRequest;

typedef struct HttpHeader {
    const char *name, *value;
} HttpHeader;

/* userdata is the server's. */
typedef struct HttpEvents {
    /* The header is there, the body is not. Must call http_answer() (the body is then read and thrown away), or
     * http_then() to be called again with the body. */
    void (*begin)(HttpRequest *r, void *userdata);
    const HttpHeader *headers; /* of every answer that has none of that name; ended by an empty one */
    /* Must http_answer() with this status: 400 a header is given twice (http_repeated()) or the body's length is
     * ambiguous, 413 it is too long, 503 too many bytes are being received or sent at once. */
    void (*refuse)(HttpRequest *r, unsigned status, void *userdata);
    /* Requests were read off the wire; what was collected from them may go on its way now. */
    void (*turned)(void *userdata);
    /* Appends what a client is told, as application/problem+json with 408, whose request began and took too long. */
    void (*late)(Buf *body);
    /* Connections are refused: address has all that one address may have; NULL: all are taken. */
    void (*crowded)(const char *address, void *userdata);
    /* After http_server_drain(): no request is under way, and none came for a tenth of a second. */
    void (*drained)(void *userdata);
} HttpEvents;

#define HTTP_BASE_MAX 200

typedef struct HttpLimits {
    const char *base; /* http_base() of every request, at most HTTP_BASE_MAX bytes; not owned */
    size_t body_max;  /* bytes of one body, unless http_set_body_max() says otherwise */
    /* In all. When nearly as many are open, each new one makes the one give way that has been longest at a part of the
     * conversation that is up to its client; where there is none, it is http_is_crowded(). */
    size_t connections_max;
    size_t address_connections_max; /* from one address of another machine; more are closed at once */
} HttpLimits;

/* Errors: -ENOMEM and what sd-event says. */
int http_server_new(
    HttpServer **ret, sd_event *event, const HttpEvents *events, HttpLimits limits, void *userdata);

/* From now on; connections_max stays as it was. */
void http_server_set_limits(HttpServer *s, HttpLimits limits);

/* Serves a listening socket. Takes fd over on success. local: http_is_local() of its requests. -ENOMEM. */
int http_server_listen(HttpServer *s, int fd, bool local);

/* Accepts no more: closes its descriptors of the listening sockets (one that the service manager holds too goes on
 * queueing connections for whoever comes next), and each connection after the answer that is under way on it. */
void http_server_drain(HttpServer *s);

size_t http_server_active(const HttpServer *s); /* requests under way */

/* Requests not answered by now are cut off; nobody may answer them later. Call it from the loop or after it. */
HttpServer *http_server_free(HttpServer *s);
void http_server_freep(HttpServer **s);

/* ---- a request ----
 * Valid from begin() to its http_answer() (a stream's: to closed()), also when the client goes away meanwhile.
 * Texts are its own. */
const char *http_method(const HttpRequest *r);
const char *http_path(const HttpRequest *r); /* as written, percent-encoding and all; without the query */
const char *http_header(const HttpRequest *r, const char *name); /* the first one; NULL */
const char *http_host(
    const HttpRequest *r); /* whom it is for: of a whole address as target, else Host; NULL */
const char *http_repeated(const HttpRequest *r); /* the header that was to come once and came twice; NULL */
const char *http_base(const HttpRequest *r);     /* stands before the paths that an answer refers to; "" */
bool http_is_local(const HttpRequest *r);

/* The client will send nothing more: it has gone, or waits for nothing but this answer. libmicrohttpd does not look while
 * a request waits. */
bool http_peer_is_done(const HttpRequest *r);

/* Connections are nearly used up, and this one is closed behind its answer: only what must be answered then should
 * be, the rest is told to come back. */
bool http_is_crowded(const HttpRequest *r);

/* The limit of this request's body; the setter only from inside begin(). */
void http_set_body_max(HttpRequest *r, size_t bytes);
size_t http_body_max(const HttpRequest *r);

/* Who sends it, as far as somebody found that out; "" unless set. Copied. -ENOMEM. */
int http_set_client(HttpRequest *r, const char *name);
const char *http_client(const HttpRequest *r);

/* Calls each with every parameter of the query, in order: percent-encoded as they were written, but that '+' is a
 * blank already; value is NULL where there is no '='. Until each returns false. */
typedef bool (*HttpEach)(void *userdata, const char *name, const char *value);
void http_query(const HttpRequest *r, HttpEach each, void *userdata);

/* Something that stands for r while its answer has to wait. released is called when r is answered, by whomever, or
 * cut off; r has at most one. http_held(): NULL if none. */
void http_hold(HttpRequest *r, void *what, void (*released)(void *what));
void *http_held(const HttpRequest *r);

/* What is to be done once the body is there: called with what, and the server's userdata. */
typedef void (*HttpThen)(HttpRequest *r, const void *what, void *userdata);
void http_then(HttpRequest *r, HttpThen then, const void *what);

/* The body, NUL-terminated. Only inside then(); gone when it returns. */
const char *http_body(const HttpRequest *r, size_t *ret_len);

/*
 * Answers, now or at any later time, exactly once; r is gone then. type: media type, NULL with an empty body.
 * headers: more of them, ended by an empty one; may be NULL. body is taken over and left empty; may be NULL.
 * Without memory for it the connection is closed.
 */
void http_answer(HttpRequest *r, unsigned status, const char *type, const HttpHeader headers[], Buf *body);

/* The same for a body that lives as long as the server and is not copied: any number of slow readers share it. */
void http_answer_static(HttpRequest *r, unsigned status, const char *type, const HttpHeader headers[],
    const char *body, size_t len);

/* An answer without an end, for instance of Server-Sent Events. */
typedef struct HttpStream {
    /* The client can take more: writes up to size bytes and returns how many; 0: there is nothing now, call
     * again after http_wake(). A client that does not take what there is for half a minute is cut off. */
    size_t (*pull)(HttpRequest *r, void *userdata, char *buf, size_t size);
    /* It is over, by whichever side: r is gone after this. */
    void (*closed)(HttpRequest *r, void *userdata);
} HttpStream;

/*
 * As http_answer(), with 200, but the body is what stream->pull says until the client leaves or the server drains;
 * stream->closed is called exactly once, also when there was no memory for the answer (then never from inside this
 * call). A client that left is noticed with the next thing it is sent.
 */
void http_answer_stream(
    HttpRequest *r, const char *type, const HttpHeader headers[], const HttpStream *stream, void *userdata);
void http_wake(HttpRequest *r);
void http_stream_end(HttpRequest *r); /* stream->closed is called soon, never from inside this call */
