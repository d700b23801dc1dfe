/* SPDX-License-Identifier: MIT */
#include "api/problem.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/json.h"

#define PAGE "/docs/problems"

static const struct {
    unsigned status;
    const char *slug, *title, *help;
} kinds[_PROBLEM_MAX] = {
    [PROBLEM_BAD_REQUEST] = { 400, "bad-request", "The request is ambiguous",
        "Send each header once, and either Content-Length or Transfer-Encoding: chunked." },
    [PROBLEM_INVALID_JSON] = { 400, "invalid-json", "The body is not valid JSON",
        "The detail says at which byte. JSON is RFC 8259: UTF-8, double quotes, no trailing commas." },
    [PROBLEM_UNAUTHORIZED] = { 401, "unauthorized", "An access token is needed",
        "Send the header Authorization: Bearer TOKEN. pgmill token new makes one; its line belongs into the "
        "file of "
        "Tokens= in the section [API] of pgmill.conf." },
    [PROBLEM_FORBIDDEN] = { 403, "forbidden", "The access token does not allow this",
        "The detail says which scope is missing." },
    [PROBLEM_NO_SUCH_RESOURCE] = { 404, "no-such-resource", "There is nothing at this path",
        "GET / lists what there is." },
    [PROBLEM_NO_SUCH_TASK] = { 404, "no-such-task", "There is no such task",
        "It was never submitted here, or it has been deleted since." },
    [PROBLEM_METHOD] = { 405, "method-not-allowed", "This path has other methods",
        "The header Allow lists them." },
    [PROBLEM_TIMEOUT] = { 408, "request-timeout", "The request came too slowly",
        "A header has 5 seconds. A body has 15, and as long as it takes while 8 KiB of it come a second. "
        "Nothing "
        "was done: send it again." },
    [PROBLEM_TASK_ENDED] = { 409, "task-ended", "The task has ended",
        "COMPLETED is final. CANCELLED and FAILED tasks can be tried again with PATCH …/retry." },
    [PROBLEM_TASK_RUNNING] = { 409, "task-running", "The task is running",
        "A task that runs cannot be retried. It can be paused, unless its handler has Mode=stream or "
        "Mode=sql, "
        "and cancelled. Cancel it, or wait until its attempt is over." },
    [PROBLEM_UNIQUE_KEY] = { 409, "unique-key-taken", "Another unfinished task has this unique_key",
        "A queue holds at most one unfinished task of a unique_key. The header Location names it, where it "
        "is "
        "known. Submit again once it has ended, or use another key." },
    [PROBLEM_KEY_IN_FLIGHT] = { 409, "idempotency-in-flight", "The same submission is under way",
        "Another request with this Idempotency-Key or unique_key has not been answered yet. Send it again "
        "later: the answer will be the same task." },
    [PROBLEM_KEY_MISMATCH] = { 422, "idempotency-mismatch", "This Idempotency-Key belongs to another request",
        "The body differs, byte for byte, from the one that came with this key before. Use a new key for a "
        "new task." },
    [PROBLEM_NO_SUCH_QUEUE] = { 404, "no-such-queue", "There is no such queue",
        "A queue exists once a task was submitted to it, a worker serves it or it was configured with PUT. "
        "One that is not used is forgotten after a day." },
    [PROBLEM_QUEUE_USED] = { 409, "queue-used", "The queue is in use",
        "Only a queue that no worker serves, and whose tasks have all ended, can be deleted." },
    [PROBLEM_NO_SUCH_WORKER] = { 404, "no-such-worker", "There is no such worker",
        "Only workers that live, or whose tasks are not given back yet, are listed by GET /api/workers/." },
    [PROBLEM_TASK_LOCKED] = { 409, "task-locked", "Somebody else holds the task",
        "Another session's open transaction has changed it. Try again once that has ended." },
    [PROBLEM_TOO_LARGE] = { 413, "too-large", "The body is too large",
        "The detail says the limit. Put big data elsewhere and its address into the payload." },
    [PROBLEM_MEDIA_TYPE] = { 415, "unsupported-media-type", "The body must be application/json",
        "Send the header Content-Type: application/json." },
    [PROBLEM_WRONG_HOST] = { 421, "wrong-host", "This server does not answer for that host",
        "Use localhost, 127.0.0.1 or [::1], or add the name to AllowedHosts= in the section [API] of "
        "pgmill.conf." },
    [PROBLEM_INVALID_FIELDS] = { 422, "invalid-fields", "Some fields are not as they must be",
        "The member errors names each field as a JSON pointer without its first slash, and says what it must "
        "be." },
    [PROBLEM_INTERNAL] = { 500, "internal", "The request failed through no fault of yours",
        "The log of the service says more." },
    [PROBLEM_BUSY] = { 503, "busy", "Too much is under way",
        "Send it again after the seconds that the header Retry-After says." },
    [PROBLEM_NO_DATABASE] = { 503, "no-database", "The database cannot be used now",
        "Send it again after the seconds that the header Retry-After says. The service reconnects by "
        "itself." },
    [PROBLEM_OUTCOME_UNKNOWN] = { 504, "outcome-unknown", "It is not known whether this was done",
        "The database was lost before it answered. Look at what there is before you send it again: it may "
        "have been "
        "done, and others may have acted since." },
};

/* EventSource takes anything but a stream for the last word (HTML, section 9.2.2), so what is only for now is told to it
 * by a stream that ends. */
static bool is_event_source(const HttpRequest *r) {
    const char *accept = http_header(r, "Accept");

    return accept && streq(accept, "text/event-stream") && streq(http_method(r), "GET");
}

static void answer_event_source(HttpRequest *r, const Buf *problem) {
    Buf stream = {};

    buf_printf(&stream, "retry: 5000\nevent: problem\ndata: %s\n", problem->data);
    http_answer(r, 200, "text/event-stream", NULL, &stream);
}

/* The document; its memory is body's. */
static void write_document(Problem kind, const char *detail, const Fields *fields, Buf *body) {
    cJSON *problem = cJSON_CreateObject();
    char type[64], *text = NULL;

    (void) snprintf(type, sizeof(type), PAGE "#%s", kinds[kind].slug);
    if (cJSON_AddStringToObject(problem, "type", type) &&
        cJSON_AddStringToObject(problem, "title", kinds[kind].title) &&
        cJSON_AddNumberToObject(problem, "status", kinds[kind].status) &&
        cJSON_AddStringToObject(problem, "detail", detail) &&
        (!fields || !fields->list || cJSON_AddItemReferenceToObject(problem, "errors", fields->list)))
        text = cJSON_PrintUnformatted(problem);
    if (text)
        buf_printf(body, "%s\n", text);
    else
        body->failed = true;
    free(text);
    cJSON_Delete(problem);
}

void problem_write_timeout(Buf *body) {
    write_document(PROBLEM_TIMEOUT, "It was not whole in time", NULL, body);
}

static void answer(
    HttpRequest *r, Problem kind, const char *detail, const Fields *fields, HttpHeader header) {
    HttpHeader headers[] = { header, {}, {} };
    Buf body = {};

    if (kinds[kind].status == 503)
        headers[header.name ? 1 : 0] = (HttpHeader){ "Retry-After", "1" };
    write_document(kind, detail, fields, &body);
    if (kinds[kind].status == 503 && body.data && is_event_source(r)) {
        answer_event_source(r, &body);
        return buf_done(&body);
    }
    http_answer(r, kinds[kind].status, "application/problem+json", headers, &body);
}

void problem_answer(HttpRequest *r, Problem kind, const char *format, ...) {
    char detail[512];
    va_list ap;

    va_start(ap, format);
    (void) vsnprintf(detail, sizeof(detail), format, ap);
    va_end(ap);
    answer(r, kind, detail, NULL, (HttpHeader){});
}

/* fields->prefix: of the list. */
static void places_add(Fields *fields, const char *places) {
    size_t position = 0;
    JsonSpan list, place;

    if (!places || json_check(places, strlen(places), &list, NULL, NULL) < 0)
        return;
    while (fields->count < FIELDS_MAX && json_next_element(&list, &position, &place) > 0) {
        char field[64];
        (void) snprintf(field, sizeof(field), "%.*s/unique_key", (int) place.len, place.text);
        fields_add(fields, field, "is that of an unfinished task, or of one before it in this request");
    }
}

void problem_answer_unique(HttpRequest *r, const char *holder, const char *list, const char *places) {
    _cleanup_(fields_done) Fields fields = { .prefix = list };
    char location[HTTP_BASE_MAX + 64] = "", detail[128] = "Another unfinished task has it";

    places_add(&fields, places);
    if (fields.failed)
        return problem_answer(r, PROBLEM_BUSY, "out of memory");
    if (holder) {
        (void) snprintf(location, sizeof(location), "%s/api/tasks/%s", http_base(r), holder);
        (void) snprintf(detail, sizeof(detail), "Task %s has it", holder);
    }
    answer(r, PROBLEM_UNIQUE_KEY, detail, &fields, (HttpHeader){ holder ? "Location" : NULL, location });
}

void problem_answer_method(HttpRequest *r, const char *allow) {
    char detail[128];

    (void) snprintf(detail, sizeof(detail), "%s is not among them: %s", FIELDS_QUOTE(http_method(r)), allow);
    answer(r, PROBLEM_METHOD, detail, NULL, (HttpHeader){ "Allow", allow });
}

void problem_answer_unauthorized(HttpRequest *r, const char *shown) {
    if (shown)
        answer(r, PROBLEM_UNAUTHORIZED, "The token is not known here: it may be withdrawn, or mistyped", NULL,
            (HttpHeader){ "WWW-Authenticate", "Bearer realm=\"pgmill\", error=\"invalid_token\"" });
    else
        answer(r, PROBLEM_UNAUTHORIZED, "There is no token in the header Authorization", NULL,
            (HttpHeader){ "WWW-Authenticate", "Bearer realm=\"pgmill\"" });
}

void problem_answer_forbidden(HttpRequest *r, const char *token, const char *scope) {
    char detail[256], challenge[128];

    (void) snprintf(detail, sizeof(detail), "The token \"%s\" lacks the scope %s", token, scope);
    (void) snprintf(challenge, sizeof(challenge),
        "Bearer realm=\"pgmill\", error=\"insufficient_scope\", scope=\"%s\"", scope);
    answer(r, PROBLEM_FORBIDDEN, detail, NULL, (HttpHeader){ "WWW-Authenticate", challenge });
}

void problem_answer_fields(HttpRequest *r, Problem kind, const Fields *fields) {
    const cJSON *first = fields->list ? fields->list->child : NULL;
    const char *field = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(first, "field"));
    const char *what = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(first, "detail"));
    char detail[640];

    if (fields->failed || !field || !what)
        return problem_answer(r, PROBLEM_BUSY, "out of memory");
    if (fields->count == 1)
        (void) snprintf(detail, sizeof(detail), "%s %s", *field ? field : "the body", what);
    else
        (void) snprintf(detail, sizeof(detail), "%zu complaints, see errors", fields->count);
    answer(r, kind, detail, fields, (HttpHeader){});
}

void problem_answer_field(HttpRequest *r, const char *field, const char *format, ...) {
    _cleanup_(fields_done) Fields fields = {};
    char detail[512];
    va_list ap;

    va_start(ap, format);
    (void) vsnprintf(detail, sizeof(detail), format, ap);
    va_end(ap);
    fields_add(&fields, field, "%s", detail);
    problem_answer_fields(r, PROBLEM_INVALID_FIELDS, &fields);
}

void problem_answer_page(HttpRequest *r) {
    Buf page = {};

    buf_puts(&page,
        "<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>pgmill: problems</title>\n"
        "<h1>Problems</h1>\n<p>What the member <code>type</code> of an answer of media type "
        "<code>application/problem+json</code> (RFC 9457) refers to.</p>\n<dl>\n");
    for (size_t i = 0; i < _PROBLEM_MAX; i++)
        buf_printf(&page, "<dt id=\"%s\">%u <b>%s</b>: %s</dt>\n<dd>%s</dd>\n", kinds[i].slug,
            kinds[i].status, kinds[i].slug, kinds[i].title, kinds[i].help);
    buf_puts(&page, "</dl>\n</html>\n");
    http_answer(r, 200, "text/html; charset=utf-8", NULL, &page);
}
