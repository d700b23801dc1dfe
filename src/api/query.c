/* SPDX-License-Identifier: MIT */
#include "api/query.h"

#include <inttypes.h>

#include "api/percent.h"
#include "api/problem.h"

void query_done(Query *q) {
    for (size_t i = 0; i < QUERY_MAX; i++)
        free(q->values[i]);
    fields_done(&q->complaints);
}

static void complain_unknown(Query *q, const char *name) {
    Buf known = {};

    for (size_t i = 0; q->names[i]; i++)
        buf_printf(&known, "%s%s", i > 0 ? ", " : "", q->names[i]);
    fields_add(&q->complaints, FIELDS_QUOTE(name), "is not a parameter of this call; there %s %s",
        known.data ? "are" : "is", known.data ? known.data : "none");
    buf_done(&known);
}

/* name and value are decoded. */
static int add(Query *q, const char *name, const char *value) {
    size_t i = 0;

    while (q->names[i] && !streq(q->names[i], name))
        i++;
    if (!q->names[i])
        complain_unknown(q, name);
    else if (q->values[i] && !(q->lists & 1U << i))
        fields_add(&q->complaints, name, "is given twice");
    else {
        char *known = q->values[i], *all = NULL;
        int r = string_printf(&all, "%s%s%s", known ? known : "", known ? "," : "", value);
        if (r < 0)
            return r;
        free(known);
        q->values[i] = all;
    }
    return 0;
}

static bool on_parameter(void *userdata, const char *encoded_name, const char *encoded_value) {
    Query *q = userdata;

    if (!*encoded_name && !encoded_value)
        return true; /* "?a=1&" */
    _cleanup_(freep) char *name = strdup(encoded_name);
    _cleanup_(freep) char *value = strdup(encoded_value ? encoded_value : "");
    if (!name || !value)
        q->complaints.failed = true;
    else if (!percent_decode(name) || !percent_decode(value))
        fields_add(&q->complaints, name, "is not percent-encoded UTF-8");
    else if (add(q, name, value) < 0)
        q->complaints.failed = true;
    return !q->complaints.failed;
}

void query_read(Query *q, const HttpRequest *r, const char *const names[], unsigned lists) {
    *q = (Query){ .names = names, .lists = lists };
    http_query(r, on_parameter, q);
}

uint64_t query_number(Query *q, size_t i, uint64_t min, uint64_t max, uint64_t fallback) {
    uint64_t n;

    if (!q->values[i])
        return fallback;
    if (parse_uint(q->values[i], max, &n) >= 0 && n >= min)
        return n;
    fields_add(&q->complaints, q->names[i],
        "must be a whole number from %" PRIu64 " to %" PRIu64 ", not \"%s\"", min, max,
        FIELDS_QUOTE(q->values[i]));
    return fallback;
}

bool query_refused(const Query *q, HttpRequest *r) {
    if (q->complaints.count == 0 && !q->complaints.failed)
        return false;
    problem_answer_fields(r, PROBLEM_INVALID_FIELDS, &q->complaints);
    return true;
}
