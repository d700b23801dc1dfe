/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The table of routes, and how a request finds its row. A new route is one row.
 */
#include "api/context.h"
#include "api/token.h"

enum {
    ROUTE_JSON = 1,  /* needs a body; it must be application/json, as must that of any route but a GET */
    ROUTE_QUERY = 4, /* reads the query; where nobody does, a parameter is refused */
    ROUTE_ALWAYS =
        2, /* answered even when connections are nearly used up: cheap, and asked by who looks after us */
};

typedef struct Route {
    const char *method; /* "GET" answers HEAD too */
    const char *path;   /* with {…} for one segment; the same with and without a slash at the end */
    Scope scope;
    RouteHandler handler;
    unsigned flags;
    const char *summary;
    size_t body_max; /* if that is more than BodyMax= */
} Route;

/* For HttpEvents.begin: answers what the table cannot serve (404, 405, 415, 421, OPTIONS); userdata is the Api. */
void route_begin(HttpRequest *r, void *userdata);

/* For HttpEvents.refuse. */
void route_refuse(HttpRequest *r, unsigned status, void *userdata);

/* The table, for tests and documentation; ended by an empty row. */
const Route *route_table(void);

/*
 * Does path match pattern? Segments are compared percent-decoded (RFC 3986, section 6.2.2.2). The one that stands
 * for {…} is copied to capture, "" if there is none.
 */
#define ROUTE_SEGMENT_SIZE 128 /* longer segments match nothing */
bool route_match(const char *pattern, const char *path, char capture[static ROUTE_SEGMENT_SIZE]);
