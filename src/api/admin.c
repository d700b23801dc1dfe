/* SPDX-License-Identifier: MIT */
#include "api/admin.h"

#include "api/answer.h"
#include "api/ask.h"
#include "api/problem.h"
#include "api/query.h"
#include "api/steer.h"
#include "base/json.h"
#include "store/admin.h"
#include "store/task.h"

#define LIMIT_MAX    1000000
#define PAGE_DEFAULT 1000
#define PAGE_MAX     1000

/* What is missing where the verdict is "unknown". */
static const Problem no_queue = PROBLEM_NO_SUCH_QUEUE, no_worker = PROBLEM_NO_SUCH_WORKER;

static void on_answer(const Ask *ask, const DbRows *rows) {
    const char *verdict = db_value(rows, 0, 0), *text = db_value(rows, 0, 1);
    const Problem *missing = ask->what;
    Buf body = {};

    if (streq(verdict, "unknown") || !text)
        return problem_answer(
            ask->request, *missing, "There is nothing at %s", FIELDS_QUOTE(http_path(ask->request)));
    if (streq(verdict, "used"))
        return problem_answer(ask->request, PROBLEM_QUEUE_USED,
            "A worker serves the queue, or tasks of it have not ended; GET shows which");
    if (streq(http_method(ask->request), "DELETE"))
        return http_answer(ask->request, 204, NULL, NULL, NULL);
    buf_add(&body, text, db_length(rows, 0, 1));
    buf_putc(&body, '\n');
    http_answer(ask->request, streq(verdict, "created") ? 201 : 200, "application/json", NULL, &body);
}

static Ask *ask_on(Api *api, HttpRequest *r, LinkUse use, const Problem *missing) {
    return ask_new(&(Ask){ .api = api, .request = r, .use = use, .answer = on_answer, .what = missing });
}

/* What adds many rows up keeps no one who steers waiting. */
static Ask *look(Api *api, HttpRequest *r, const Problem *missing) {
    return ask_on(api, r, LINK_BROWSE, missing);
}

static Ask *ask(Api *api, HttpRequest *r, const Problem *missing) {
    return ask_on(api, r, LINK_STEER, missing);
}

static bool is_queue(HttpRequest *r, const char *name) {
    if (task_label_valid(name))
        return true;
    problem_answer_field(r, "name", "must be " TASK_LABEL_RULE ", not \"%s\"", FIELDS_QUOTE(name));
    return false;
}

/* ---- queues ---- */

void admin_queue_list(Api *api, HttpRequest *r, _unused_ const char *capture) {
    enum { QUERY_LIMIT, QUERY_CURSOR };
    static const char *const names[] = { [QUERY_LIMIT] = "limit", [QUERY_CURSOR] = "cursor", NULL };
    _cleanup_(query_done) Query q = {};

    query_read(&q, r, names, 0);
    unsigned limit = (unsigned) query_number(&q, QUERY_LIMIT, 1, PAGE_MAX, PAGE_DEFAULT);
    const char *after = q.values[QUERY_CURSOR];
    if (after && ((*after != 'a' && *after != 'b') || !task_label_valid(after + 1)))
        fields_add(&q.complaints, "cursor", "must be what the page before said is next, not \"%s\"",
            FIELDS_QUOTE(after));
    Ask *a = query_refused(&q, r) ? NULL : look(api, r, &no_queue);
    if (a)
        ask_sent(a, admin_queues(ask_db(a), after, limit, ask_on_reply, a));
}

void admin_queue_get(Api *api, HttpRequest *r, const char *capture) {
    Ask *a = is_queue(r, capture) ? look(api, r, &no_queue) : NULL;

    if (a)
        ask_sent(a, admin_queue(ask_db(a), capture, ask_on_reply, a));
}

void admin_queue_remove(Api *api, HttpRequest *r, const char *capture) {
    Ask *a = is_queue(r, capture) && steer_body_is_empty(r) ? ask(api, r, &no_queue) : NULL;

    if (a)
        ask_sent(a, admin_queue_delete(ask_db(a), capture, ask_on_reply, a));
}

static void pause_or_resume(Api *api, HttpRequest *r, const char *name, bool paused) {
    Ask *a = is_queue(r, name) && steer_body_is_empty(r) ? ask(api, r, &no_queue) : NULL;

    if (a)
        ask_sent(a, admin_queue_pause(ask_db(a), name, paused, ask_on_reply, a));
}

void admin_queue_hold(Api *api, HttpRequest *r, const char *capture) {
    pause_or_resume(api, r, capture, true);
}

void admin_queue_open(Api *api, HttpRequest *r, const char *capture) {
    pause_or_resume(api, r, capture, false);
}

typedef struct QueueSettings {
    bool paused;
    long long max_running; /* -1: no limit */
    bool seen[2];
} QueueSettings;

static void read_setting(QueueSettings *s, const char *key, const JsonSpan *value, Fields *complaints) {
    static const char *const keys[] = { "paused", "max_running" };
    size_t i = 0;

    while (i < ELEMENTS(keys) && !streq(keys[i], key))
        i++;
    if (i == ELEMENTS(keys))
        fields_add(complaints, key, "is not a setting of a queue; there are paused, max_running");
    else if (s->seen[i])
        fields_add(complaints, key, "is given twice");
    else if (i == 0 && value->type != JSON_BOOLEAN && value->type != JSON_NULL)
        fields_add(complaints, key, "must be true, false or null, not %s", json_type_name(value->type));
    else if (i == 0)
        s->paused = *value->text == 't';
    else if (value->type != JSON_NULL &&
             (json_whole(value, &s->max_running) < 0 || s->max_running < 0 || s->max_running > LIMIT_MAX))
        fields_add(complaints, key, "must be a whole number from 0 to %d, or null", LIMIT_MAX);
    if (i < ELEMENTS(keys))
        s->seen[i] = true;
}

/* False: r is answered. */
static bool read_settings(HttpRequest *r, QueueSettings *ret) {
    _cleanup_(fields_done) Fields complaints = {};
    size_t len, offset, position = 0;
    const char *body = http_body(r, &len), *why;
    JsonSpan object, value;

    *ret = (QueueSettings){ .max_running = -1 };
    if (json_check(body, len, &object, &offset, &why) < 0) {
        problem_answer(
            r, PROBLEM_INVALID_JSON, "The body is not JSON at byte %zu of %zu: %s", offset, len, why);
        return false;
    }
    if (object.type != JSON_OBJECT)
        fields_add(&complaints, "", "must be an object with the settings paused, max_running");
    for (int more = object.type == JSON_OBJECT; more > 0;) {
        _cleanup_(freep) char *key = NULL;
        more = json_next_member(&object, &position, &key, &value);
        if (more > 0)
            read_setting(ret, key, &value, &complaints);
        else if (more == -EBADMSG)
            fields_add(&complaints, "", "has a field whose name holds \\u0000");
        else if (more < 0)
            complaints.failed = true;
    }
    if (complaints.count == 0 && !complaints.failed)
        return true;
    problem_answer_fields(r, PROBLEM_INVALID_FIELDS, &complaints);
    return false;
}

void admin_queue_set(Api *api, HttpRequest *r, const char *capture) {
    QueueSettings s;
    Ask *a = is_queue(r, capture) && read_settings(r, &s) ? ask(api, r, &no_queue) : NULL;

    if (a)
        ask_sent(a, admin_queue_put(ask_db(a), capture, s.paused, (int) s.max_running, ask_on_reply, a));
}

void admin_queue_alter(Api *api, HttpRequest *r, const char *capture) {
    QueueSettings s;
    size_t len;
    Ask *a = is_queue(r, capture) && read_settings(r, &s) ? ask(api, r, &no_queue) : NULL;

    if (a)
        ask_sent(a, admin_queue_change(ask_db(a), capture, http_body(r, &len), ask_on_reply, a));
}

/* ---- workers and figures ---- */

void admin_worker_list(Api *api, HttpRequest *r, _unused_ const char *capture) {
    Ask *a = look(api, r, &no_worker);

    if (a)
        ask_sent(a, admin_workers(ask_db(a), NULL, ask_on_reply, a));
}

void admin_worker_silence(Api *api, HttpRequest *r, const char *capture) {
    Id id;
    Ask *a = answer_id(r, capture, &id) && steer_body_is_empty(r) ? ask(api, r, &no_worker) : NULL;

    if (a)
        ask_sent(a, admin_worker_quiet(ask_db(a), id, ask_on_reply, a));
}

void admin_figures(Api *api, HttpRequest *r, _unused_ const char *capture) {
    Ask *a = look(api, r, &no_queue);

    if (a)
        ask_sent(a, admin_stats(ask_db(a), ask_on_reply, a));
}
