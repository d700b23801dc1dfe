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
#include "api/query.h"
#include "api/read.h"
#include "api/steer.h"
#include "api/submit.h"

static void index_get(Api *api, HttpRequest *r, const char *capture);
static void problems_get(Api *api, HttpRequest *r, const char *capture);

#define BULK_MAX (16U * 1024 * 1024)

static const Route routes[] = {
    { "POST", "/api/tasks/", SCOPE_SUBMIT, submit_post, ROUTE_JSON, "submit a task" },
    { "POST", "/api/tasks/bulk", SCOPE_SUBMIT, keyed_post_bulk, ROUTE_JSON, "submit many tasks, all or none",
        .body_max = BULK_MAX },
    { "GET", "/api/tasks/", SCOPE_READ, list_get, ROUTE_QUERY, "list tasks, newest first" },
    { "GET", "/api/tasks/{id}", SCOPE_READ, read_get, ROUTE_QUERY, "read a task, or wait for its end" },
    { "GET", "/api/tasks/{id}/log", SCOPE_READ, read_log, 0, "what it last wrote to standard error" },
    { "PATCH", "/api/tasks/{id}/pause", SCOPE_OPERATE, steer_pause, 0, "keep a task from being run" },
    { "PATCH", "/api/tasks/{id}/resume", SCOPE_OPERATE, steer_resume, 0, "let a paused task be run" },
    { "PATCH", "/api/tasks/{id}/cancel", SCOPE_OPERATE, steer_cancel, 0, "end a task for good" },
    { "PATCH", "/api/tasks/{id}/retry", SCOPE_OPERATE, steer_retry, 0, "try a task again, now" },
    { "GET", "/api/queues/", SCOPE_READ, admin_queue_list, ROUTE_QUERY, "list queues, those in use first" },
    { "GET", "/api/queues/{name}", SCOPE_READ, admin_queue_get, 0, "read a queue" },
    { "PUT", "/api/queues/{name}", SCOPE_ADMIN, admin_queue_set, ROUTE_JSON, "create or configure a queue" },
    { "DELETE", "/api/queues/{name}", SCOPE_ADMIN, admin_queue_remove, 0, "forget an empty queue" },
    { "PATCH", "/api/queues/{name}", SCOPE_ADMIN, admin_queue_alter, ROUTE_JSON,
        "change settings of a queue" },
    { "PATCH", "/api/queues/{name}/pause", SCOPE_OPERATE, admin_queue_hold, 0,
        "start no more tasks of a queue" },
    { "PATCH", "/api/queues/{name}/resume", SCOPE_OPERATE, admin_queue_open, 0,
        "start tasks of a queue again" },
    { "GET", "/api/workers/", SCOPE_READ, admin_worker_list, 0, "list workers and what they run" },
    { "PATCH", "/api/workers/{id}/quiet", SCOPE_OPERATE, admin_worker_silence, 0,
        "let a worker finish and start nothing" },
    { "GET", "/api/stats", SCOPE_READ, admin_figures, 0, "figures of the whole" },
    { "GET", "/api/events", SCOPE_READ, events_get, ROUTE_QUERY, "changes of tasks as Server-Sent Events" },
    { "GET", "/metrics", SCOPE_READ, metrics_get, ROUTE_ALWAYS, "figures for Prometheus" },
    { "GET", "/healthz", SCOPE_OPEN, health_live, ROUTE_ALWAYS, "is the service alive?" },
    { "GET", "/readyz", SCOPE_OPEN, health_ready, ROUTE_ALWAYS, "can tasks be submitted and read?" },
    { "GET", "/openapi.json", SCOPE_OPEN, docs_description, 0, "this API's description (OpenAPI 3.1)" },
    { "GET", "/docs", SCOPE_OPEN, docs_page, 0, "the same in a browser, to be tried" },
    { "GET", "/docs/rapidoc.js", SCOPE_OPEN, docs_script, 0, "what that page is made with" },
    { "GET", "/docs/problems", SCOPE_OPEN, problems_get, 0, "what the types of problems mean" },
    { "GET", "/", SCOPE_OPEN, index_get, 0, "this list" },
    {},
};

const Route *route_table(void) {
    return routes;
}

static void index_get(_unused_ Api *api, HttpRequest *r, _unused_ const char *capture) {
    Buf text = {};

    buf_puts(&text, "pgmill " PGMILL_VERSION ", a task queue on PostgreSQL\n\n");
    for (const Route *route = routes; route->method; route++)
        buf_printf(&text, "%-6s %-28s %-8s %s\n", route->method, route->path,
            route->scope == SCOPE_OPEN ? "-" : scope_name(route->scope), route->summary);
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

/* Is there a row for this very path? Then it is none for {…} of another. */
static bool is_literal(const char *path) {
    char capture[ROUTE_SEGMENT_SIZE];

    for (const Route *route = routes; route->method; route++)
        if (route_match(route->path, path, capture) && !*capture)
            return true;
    return false;
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

/* False: r is answered, 401 or 403. Whoever may open a Unix socket was let in by its file's mode. */
static bool authorize(const Api *api, HttpRequest *r, const Route *route) {
    const char *shown = http_header(r, "Authorization");

    if (route->scope == SCOPE_OPEN || !api->tokens_asked || http_is_local(r))
        return true;
    const Token *token = tokens_find(&api->tokens, shown);
    if (!token)
        problem_answer_unauthorized(r, shown);
    else if (!(token->scopes & route->scope))
        problem_answer_forbidden(r, token->name, scope_name(route->scope));
    else if (http_set_client(r, token->name) < 0)
        problem_answer(r, PROBLEM_BUSY, "out of memory");
    else
        return true;
    return false;
}

/* RFC 9112, section 6.3 */
static bool has_body(const HttpRequest *r) {
    const char *length = http_header(r, "Content-Length");

    return http_header(r, "Transfer-Encoding") || (length && !streq(length, "0"));
}

/* False: r is answered. */
static bool no_parameters(HttpRequest *r) {
    static const char *const none[] = { NULL };
    _cleanup_(query_done) Query q = {};

    query_read(&q, r, none, 0);
    return !query_refused(&q, r);
}

/* Path and method are this row's. */
static void begin(const Api *api, HttpRequest *r, const Route *route) {
    const char *type = http_header(r, "Content-Type"), *coding = http_header(r, "Content-Encoding");

    if (http_is_crowded(r) && !(route->flags & ROUTE_ALWAYS))
        return problem_answer(r, PROBLEM_BUSY, "Too many connections are open");
    if (!authorize(api, r, route))
        return;
    if (!(route->flags & ROUTE_QUERY) && !no_parameters(r))
        return;
    if (((route->flags & ROUTE_JSON) || (!streq(route->method, "GET") && has_body(r))) && !is_json(type))
        return problem_answer(
            r, PROBLEM_MEDIA_TYPE, "Content-Type is %s", type ? FIELDS_QUOTE(type) : "missing");
    if (coding && has_body(r))
        return problem_answer(r, PROBLEM_MEDIA_TYPE, "Content-Encoding is %s", FIELDS_QUOTE(coding));
    http_set_body_max(r, MAX(http_body_max(r), route->body_max));
    http_then(r, run, route);
}

void route_begin(HttpRequest *r, void *userdata) {
    const Api *api = userdata;
    const char *host = http_host(r), *method = http_method(r);
    char capture[ROUTE_SEGMENT_SIZE], allow[64] = "";
    bool literal = is_literal(http_path(r));

    if (!http_is_local(r) && !hosts_allow(api->config.allowed_hosts, host))
        return problem_answer(
            r, PROBLEM_WRONG_HOST, "\"%s\" is not among the hosts it answers for", FIELDS_QUOTE(host));
    for (const Route *route = routes; route->method; route++) {
        if (!route_match(route->path, http_path(r), capture) || (literal && *capture))
            continue;
        bool get = streq(route->method, "GET");
        if (streq(route->method, method) || (get && streq(method, "HEAD")))
            return begin(api, r, route);
        add_method(allow, sizeof(allow), route->method);
        if (get)
            add_method(allow, sizeof(allow), "HEAD");
    }
    if (streq(http_path(r), "*")) /* asks about the server as a whole: RFC 9110, section 9.3.7 */
        (void) snprintf(allow, sizeof(allow), "GET, HEAD, POST, PUT, PATCH, DELETE");
    answer_no_route(r, method, allow, sizeof(allow));
}

void route_refuse(HttpRequest *r, unsigned status, _unused_ void *userdata) {
    if (status == 413)
        problem_answer(r, PROBLEM_TOO_LARGE, "A body may have %zu bytes", http_body_max(r));
    else if (status == 503)
        problem_answer(r, PROBLEM_BUSY, "Too many bytes are being received or sent");
    else if (http_repeated(r))
        problem_answer(
            r, PROBLEM_BAD_REQUEST, "The header %s is given twice; send it once", http_repeated(r));
    else
        problem_answer(
            r, PROBLEM_BAD_REQUEST, "There must be either Content-Length or Transfer-Encoding: chunked");
}
