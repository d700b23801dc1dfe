/* SPDX-License-Identifier: MIT */
/* Submissions from any text: what is taken can be stored, alone and among others alike. */
#include "api/envelope.h"

#include "fuzz.h"

#include "base/json.h"
#include "base/time.h"

static void check_task(const TaskNew *t) {
    int64_t usec;

    must(t->name && task_label_valid(t->name));
    must(!t->queue || task_label_valid(t->queue));
    must(t->priority >= 0 && t->priority < _TASK_PRIORITY_MAX);
    must(t->payload && json_check_jsonb(t->payload, strlen(t->payload), NULL) == 0);
    must(!t->scheduled_at || time_parse(t->scheduled_at, &usec) == 0);
    must(t->max_attempts >= 0 && t->max_attempts <= TASK_ATTEMPTS_MAX);
    must(t->timeout >= 0 && t->timeout <= TASK_TIMEOUT_MAX);
    must(!t->unique_key || (*t->unique_key && strlen(t->unique_key) <= TASK_UNIQUE_MAX));
    for (size_t i = 0; t->tags && t->tags[i]; i++)
        must(i < TASK_TAGS_MAX && *t->tags[i] && strlen(t->tags[i]) <= TASK_TAG_MAX);
}

static int parse_many(const char *text, size_t size, size_t n) {
    _cleanup_(envelope_tasks_done) EnvelopeTasks all = {};
    _cleanup_(fields_done) Fields complaints = {};
    _cleanup_(buf_done) Buf b = {};

    buf_puts(&b, "{\"tasks\": [");
    for (size_t i = 0; i < n; i++) {
        buf_puts(&b, i > 0 ? "," : "");
        buf_add(&b, text, size);
    }
    buf_puts(&b, "]}");
    int r = envelope_parse_many(b.data, b.len, &all, &complaints);
    must(r >= 0 && (r == 0) == (complaints.count == 0));
    for (size_t i = 0; r == 0 && i < all.count; i++)
        check_task(all.tasks[i]);
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    _cleanup_(task_new_freep) TaskNew *t = NULL;
    _cleanup_(fields_done) Fields complaints = {};
    const char *text = (const char *) data;

    int r = envelope_parse(text, size, &t, &complaints);
    must(r == 0 || r == ENVELOPE_MALFORMED || r == ENVELOPE_INVALID);
    must((r == 0) == (complaints.count == 0) && (r == 0) == (t != NULL));
    int many = parse_many(text, size, 2);
    if (r == 0) {
        check_task(t);
        must(many == 0 ||
             json_check(text, size, NULL, NULL, NULL) == 0); /* two levels deeper: may be too deep */
    }
    return 0;
}
