/* SPDX-License-Identifier: MIT */
#include "api/route.h"

#include <stdio.h>
#include <strings.h>

#include "api/admin.h"
#include "api/docs.h"
#include "api/events.h"
#include "api/health.h"
#include "api/hosts.h"
#include "api/keyed.h"
#include "api/list.h"
#include "api/metrics.h"
#include "api/percent.h"
#include "api/problem.h"
#include "api/read.h"
#include "api/steer.h"
#include "api/submit.h"

static void index_get(Api *api, HttpRequest *r, const char *capture);
static void problems_get(Api *api, HttpRequest *r, const char *capture);

static const Route routes[] = {
    { "POST", "/api/tasks/", submit_post, true, "submit a task" },
    { "POST", "/api/tasks/bulk", keyed_post_bulk, true, "submit many tasks, all or none" },
    { "GET", "/api/tasks/", list_get, false, "list tasks, newest first" },
    { "GET", "/api/tasks/{id}", read_get, false, "read a task, or wait for its end" },
    { "GET", "/api/tasks/{id}/log", read_log, false, "what it last wrote to standard error" },
    { "PATCH", "/api/tasks/{id}/pause", steer_pause, false, "keep a task from being run" },
    { "PATCH", "/api/tasks/{id}/resume", steer_resume, false, "let a paused task be run" },
    { "PATCH", "/api/tasks/{id}/cancel", steer_cancel, false, "end a task for good" },
    { "PATCH", "/api/tasks/{id}/retry", steer_retry, false, "try a task again, now" },
    { "GET", "/api/queues/", admin_queue_list, false, "list queues" },
    { "GET", "/api/queues/{name}", admin_queue_get, false, "read a queue" },
    { "PUT", "/api/queues/{name}", admin_queue_set, true, "create or configure a queue" },
    { "PATCH", "/api/queues/{name}/pause", admin_queue_hold, false, "start no more tasks of a queue" },
    { "PATCH", "/api/queues/{name}/resume", admin_queue_open, false, "start tasks of a queue again" },
    { "GET", "/api/workers/", admin_worker_list, false, "list workers and what they run" },
    { "PATCH", "/api/workers/{id}/quiet", admin_worker_silence, false,
        "let a worker finish and start nothing" },
    { "GET", "/api/stats", admin_figures, false, "figures of the whole" },
    { "GET", "/api/events", events_get, false, "changes of tasks as Server-Sent Events" },
    { "GET", "/metrics", metrics_get, false, "figures for Prometheus" },
    { "GET", "/healthz", health_live, false, "is the service alive?" },
    { "GET", "/readyz", health_ready, false, "can tasks be submitted and read?" },
    { "GET", "/openapi.json", docs_description, false, "this API's description (OpenAPI 3.1)" },
    { "GET", "/docs", docs_page, false, "the same in a browser, to be tried" },
    { "GET", "/docs/rapidoc.js", docs_script, false, "what that page is made with" },
    { "GET", "/docs/problems", problems_get, false, "what the types of problems mean" },
    { "GET", "/", index_get, false, "this list" },
    {},
};

const Route *route_table(void) {
    return routes;
}

static void index_get(_unused_ Api *api, HttpRequest *r, _unused_ const char *capture) {
    Buf text = {};

    buf_puts(&text, "pgmill " PGMILL_VERSION ", a task queue on PostgreSQL\n\n");
    for (const Route *route = routes; route->method; route++)
        buf_printf(&text, "%-6s %-28s %s\n", route->method, route->path, route->summary);
    http_answer(r, 200, "text/plain; charset=utf-8", NULL, &text);
}

static void problems_get(_unused_ Api *api, HttpRequest *r, _unused_ const char *capture) {
    problem_answer_page(r);
}

/* ---- paths ---- */

/* Decodes the segment behind the slash at *p and moves *p to its end. False: too long, or "%00" or half a code. */
static bool next_segment(const char **p, char buf[static ROUTE_SEGMENT_SIZE]) {
    const char *s = *p + 1;
    size_t n = 0;

    for (; *s && *s != '/'; s++) {
        char c = *s;
        if (c == '%') {
            int byte = percent_byte(s);
            if (byte < 0)
                return false;
            c = (char) byte;
            s += 2;
        }
        if (n == ROUTE_SEGMENT_SIZE - 1)
            return false;
        buf[n++] = c;
    }
    buf[n] = '\0';
    *p = s;
    return true;
}

static bool at_end(const char *path) {
    return streq(path, "") || streq(path, "/");
}

bool route_match(const char *pattern, const char *path, char capture[static ROUTE_SEGMENT_SIZE]) {
    char wanted[ROUTE_SEGMENT_SIZE], got[ROUTE_SEGMENT_SIZE];

    capture[0] = '\0';
    while (*path == '/' && !at_end(pattern) && !at_end(path)) {
        if (!next_segment(&pattern, wanted) || !next_segment(&path, got))
            return false;
        if (*wanted == '{' && *got)
            memcpy(capture, got, sizeof(got));
        else if (!streq(wanted, got))
            return false;
    }
    return at_end(pattern) && at_end(path);
}

/* ---- requests ---- */

static void run(HttpRequest *r, const void *what, void *userdata) {
    const Route *route = what;
    char capture[ROUTE_SEGMENT_SIZE];

    (void) route_match(route->path, http_path(r), capture);
    route->handler(userdata, r, capture);
}

static bool is_json(const char *type) {
    static const char json[] = "application/json";
    size_t n = sizeof(json) - 1;

    if (!type || strncasecmp(type, json, n) != 0)
        return false;
    type += n + strspn(type + n, " \t");
    return *type == '\0' || *type == ';';
}

static void add_method(char *allow, size_t size, const char *method) {
    size_t n = strlen(allow);

    (void) snprintf(allow + n, size - n, "%s%s", n > 0 ? ", " : "", method);
}

/* No row has both this path and this method. */
static void answer_no_route(HttpRequest *r, const char *method, char *allow, size_t size) {
    if (!*allow)
        return problem_answer(
            r, PROBLEM_NO_SUCH_RESOURCE, "There is nothing at %s", FIELDS_QUOTE(http_path(r)));
    add_method(allow, size, "OPTIONS");
    if (!streq(method, "OPTIONS"))
        return problem_answer_method(r, allow);
    http_answer(r, 204, NULL, (const HttpHeader[]){ { "Allow", allow }, {} }, NULL);
}

void route_begin(HttpRequest *r, void *userdata) {
    const Api *api = userdata;
    const char *host = http_header(r, "Host"), *method = http_method(r),
               *type = http_header(r, "Content-Type");
    char capture[ROUTE_SEGMENT_SIZE], allow[64] = "";

    if (!http_is_local(r) && !hosts_allow(api->config.allowed_hosts, host))
        return problem_answer(
            r, PROBLEM_WRONG_HOST, "\"%s\" is not among the hosts it answers for", FIELDS_QUOTE(host));
    for (const Route *route = routes; route->method; route++) {
        if (!route_match(route->path, http_path(r), capture))
            continue;
        bool get = streq(route->method, "GET");
        if (streq(route->method, method) || (get && streq(method, "HEAD"))) {
            if (route->json && !is_json(type))
                return problem_answer(
                    r, PROBLEM_MEDIA_TYPE, "Content-Type is %s", type ? FIELDS_QUOTE(type) : "missing");
            return http_then(r, run, route);
        }
        add_method(allow, sizeof(allow), route->method);
        if (get)
            add_method(allow, sizeof(allow), "HEAD");
    }
    answer_no_route(r, method, allow, sizeof(allow));
}

void route_refuse(HttpRequest *r, unsigned status, void *userdata) {
    const Api *api = userdata;

    if (status == 413)
        problem_answer(
            r, PROBLEM_TOO_LARGE, "A body may have %llu bytes", (unsigned long long) api->config.body_max);
    else if (status == 503)
        problem_answer(r, PROBLEM_BUSY, "Too many bytes are being received");
    else
        problem_answer(r, PROBLEM_BAD_REQUEST, "There is both Content-Length and Transfer-Encoding");
}
