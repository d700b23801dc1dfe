/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What http.c (requests and their answers) and http_server.c (sockets, connections, the loop) share. Both are the owner
 * of libmicrohttpd; nobody else includes this.
 */
#include <microhttpd.h>

#include "api/admission.h"
#include "api/deadline.h"
#include "api/http.h"

typedef struct Listener {
    HttpServer *server;
    struct Listener *next;
    struct MHD_Daemon *daemon;
    sd_event_source *io, *timer, *defer;
    int fd;
    bool local;
} Listener;

/* What stands for a connection. */
typedef struct Connection {
    Deadline deadline; /* first: whose it is */
    HttpServer *server;
    AdmissionAddress *address;
    bool crowded;
} Connection;

struct HttpServer {
    sd_event *event;
    const HttpEvents *events;
    HttpLimits limits;
    void *userdata;
    Listener *listeners;
    Deadlines deadlines;
    Admission admission;
    HttpRequest *requests; /* under way */
    size_t active, body_bytes, reply_bytes;
    sd_event_source *drained; /* once draining */
    bool closing;
};

struct HttpRequest {
    HttpRequest *next, *previous;
    Listener *listener;
    struct MHD_Connection *connection;
    Connection *guest;
    char *client;
    size_t body_max, reply_bytes;
    const char *method, *path, *repeated;
    char *authority; /* of a target that is a whole address */
    HttpThen then;
    const void *what;
    Buf body;
    void *held;
    void (*released)(void *held);
    const HttpStream *stream;
    void *stream_userdata;
    struct MHD_Response *response; /* given, and not queued yet because the body is still coming */
    unsigned status;
    bool discarding; /* answered, or too long: the rest of the body is nobody's */
    bool too_long;
    bool received; /* the whole of it */
    bool again;    /* libmicrohttpd was asked to come again */
    bool suspended;
    bool failed; /* no memory to answer it: close */
    bool ending; /* a stream: nothing more is pulled */
};

/* ---- http_server.c ---- */
/* The daemon has something to do that no descriptor tells of: a connection was resumed. */
void http_listener_kick(Listener *l);
/* A request or a connection is over: perhaps it was the last one of a draining server. */
void http_drained_maybe(HttpServer *s);

/* ---- http.c ---- */
/* libmicrohttpd's callbacks of a request: userdata is the Listener, *state the HttpRequest. */
enum MHD_Result http_on_access(void *userdata, struct MHD_Connection *connection, const char *url,
    const char *method, const char *version, const char *data, size_t *size, void **state);
void http_on_completed(
    void *userdata, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode code);
/* Ends all streams: their clients connect again by themselves. */
void http_streams_end(HttpServer *s);
