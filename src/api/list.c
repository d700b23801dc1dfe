/* SPDX-License-Identifier: MIT */
#include "api/list.h"

#include "api/ask.h"
#include "api/percent.h"
#include "api/problem.h"
#include "api/query.h"
#include "base/time.h"
#include "store/array.h"
#include "store/task.h"

#define LIMIT_DEFAULT 100
#define LIMIT_MAX     1000

enum {
    QUERY_STATUS,
    QUERY_QUEUE,
    QUERY_NAME,
    QUERY_PRIORITY,
    QUERY_TAG,
    QUERY_AFTER,
    QUERY_BEFORE,
    QUERY_LIMIT,
    QUERY_CURSOR,
    _QUERY_MAX,
};

static const char *const names[] = {
    [QUERY_STATUS] = "status",
    [QUERY_QUEUE] = "queue",
    [QUERY_NAME] = "name",
    [QUERY_PRIORITY] = "priority",
    [QUERY_TAG] = "tag",
    [QUERY_AFTER] = "created_after",
    [QUERY_BEFORE] = "created_before",
    [QUERY_LIMIT] = "limit",
    [QUERY_CURSOR] = "cursor",
    [_QUERY_MAX] = NULL,
};

/* What the next page is asked for with: the same filters and another cursor. */
typedef struct Listing {
    Query query;
    Buf statuses;
    char times[2][TIME_TEXT_SIZE];
    char cursor[ID_TEXT_SIZE];
} Listing;

static void listing_free(Listing *l) {
    query_done(&l->query);
    buf_done(&l->statuses);
    free(l);
}

static void listing_freep(Listing **l) {
    if (*l)
        listing_free(*l);
}

/* ---- the request ---- */

/* "FAILED,CANCELLED", any case */
static const char *read_statuses(Listing *l) {
    const char *value = l->query.values[QUERY_STATUS];

    if (!value)
        return NULL;
    _cleanup_(freep) char *bad = task_statuses_add(&l->statuses, value);
    if (bad)
        fields_add(&l->query.complaints, "status",
            "must be some of " TASK_STATUS_NAMES ", with commas between them, not \"%s\"", FIELDS_QUOTE(bad));
    l->query.complaints.failed |= buf_error(&l->statuses) < 0;
    return array_literal(&l->statuses);
}

static const char *read_label(Listing *l, size_t i) {
    const char *value = l->query.values[i];

    if (value && !task_label_valid(value))
        fields_add(
            &l->query.complaints, names[i], "must be " TASK_LABEL_RULE ", not \"%s\"", FIELDS_QUOTE(value));
    return value;
}

static const char *read_priority(Listing *l) {
    const char *value = l->query.values[QUERY_PRIORITY];

    if (!value)
        return NULL;
    TaskPriority priority = task_priority_from_string(value);
    if (priority >= 0)
        return task_priority_to_string(priority);
    fields_add(&l->query.complaints, "priority", "must be one of LOW, MEDIUM, HIGH, CRITICAL, not \"%s\"",
        FIELDS_QUOTE(value));
    return NULL;
}

static const char *read_tag(Listing *l) {
    const char *value = l->query.values[QUERY_TAG];

    if (value && (!*value || strlen(value) > TASK_TAG_MAX))
        fields_add(&l->query.complaints, "tag", "must have 1 to %d bytes", TASK_TAG_MAX);
    return value;
}

static const char *read_time(Listing *l, size_t i, char buf[static TIME_TEXT_SIZE]) {
    const char *value = l->query.values[i];
    int64_t usec;

    if (!value)
        return NULL;
    if (time_parse(value, &usec) >= 0)
        return time_format(usec, buf);
    fields_add(&l->query.complaints, names[i],
        "must be a time like 2023-10-01T10:00:00Z (RFC 3339; write a '+' as %%2B), not \"%s\"",
        FIELDS_QUOTE(value));
    return NULL;
}

static const char *read_cursor(Listing *l) {
    const char *value = l->query.values[QUERY_CURSOR];
    Id id;

    if (!value)
        return NULL;
    if (id_parse(value, &id) >= 0)
        return id_format(id, l->cursor);
    fields_add(&l->query.complaints, "cursor", "must be what the page before said is next, not \"%s\"",
        FIELDS_QUOTE(value));
    return NULL;
}

static TaskPage read_page(Listing *l) {
    return (TaskPage){
        .statuses = read_statuses(l),
        .queue = read_label(l, QUERY_QUEUE),
        .name = read_label(l, QUERY_NAME),
        .priority = read_priority(l),
        .tag = read_tag(l),
        .created_after = read_time(l, QUERY_AFTER, l->times[0]),
        .created_before = read_time(l, QUERY_BEFORE, l->times[1]),
        .before = read_cursor(l),
        .limit = (unsigned) query_number(&l->query, QUERY_LIMIT, 1, LIMIT_MAX, LIMIT_DEFAULT),
    };
}

/* ---- the answer ---- */

/* RFC 8288: </api/tasks/?queue=mail&cursor=…>; rel="next" */
static void write_link(Buf *b, const char *base, const Query *q, const char *next) {
    buf_printf(b, "<%s/api/tasks/?", base);
    for (size_t i = 0; i < _QUERY_MAX; i++)
        if (q->values[i] && i != QUERY_CURSOR) {
            buf_printf(b, "%s=", names[i]);
            percent_encode(b, q->values[i]);
            buf_putc(b, '&');
        }
    buf_printf(b, "cursor=%s>; rel=\"next\"", next);
}

static void write_tasks(Buf *b, const DbRows *rows, const char *next) {
    buf_puts(b, "{\"tasks\": [");
    for (size_t i = 0; i < db_rows(rows) && db_value(rows, i, 1); i++) {
        buf_puts(b, i > 0 ? ",\n " : "\n ");
        task_summary_json(rows, i, 1, b);
    }
    if (next)
        buf_printf(b, "\n], \"next\": \"%s\"}\n", next);
    else
        buf_puts(b, "\n], \"next\": null}\n");
}

static void on_page(const Ask *ask, const DbRows *rows) {
    const Listing *l = ask->what;
    const char *next = db_value(rows, 0, 0);
    _cleanup_(buf_done) Buf link = {};
    Buf body = {};

    write_tasks(&body, rows, next);
    if (next)
        write_link(&link, http_base(ask->request), &l->query, next);
    const HttpHeader headers[] = { { link.data ? "Link" : NULL, link.data }, {} };
    http_answer(ask->request, 200, "application/json", headers, &body);
}

static void listing_released(void *what) {
    listing_free(what);
}

void list_get(Api *api, HttpRequest *r, _unused_ const char *capture) {
    _cleanup_(listing_freep) Listing *l = calloc(1, sizeof(Listing));

    if (!l)
        return problem_answer(r, PROBLEM_BUSY, "out of memory");
    query_read(&l->query, r, names, 1U << QUERY_STATUS);
    const TaskPage page = read_page(l);
    if (query_refused(&l->query, r))
        return;
    Ask *ask = ask_new(&(Ask){ .api = api, .request = r, .use = LINK_BROWSE, .answer = on_page, .what = l });
    if (!ask)
        return;
    int sent = task_list_page(ask_db(ask), &page, ask_on_reply, ask);
    http_hold(r, TAKE_PTR(l), listing_released);
    ask_sent(ask, sent);
}
