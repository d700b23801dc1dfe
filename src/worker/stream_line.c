/* SPDX-License-Identifier: MIT */
#include "worker/stream_line.h"

#define DELAY_MAX (366.0 * 86400)

void stream_answer_done(StreamAnswer *answer) {
    free(answer->error);
    *answer = (StreamAnswer){};
}

/* ---- members; each returns why it is wrong, NULL if it is not ---- */

typedef struct Seen {
    bool task, result, error, retry;
} Seen;

static const char *read_task(StreamAnswer *a, Seen *seen, const JsonSpan *value) {
    _cleanup_(freep) char *id = NULL;

    if (seen->task || json_string(value, &id) < 0 || id_parse(id, &a->id) < 0)
        return "\"task\" must be the id of a task";
    seen->task = true;
    return NULL;
}

static const char *read_result(StreamAnswer *a, Seen *seen, const JsonSpan *value) {
    if (seen->result)
        return "\"result\" is there twice";
    seen->result = true;
    a->result = *value;
    return NULL;
}

static const char *read_error(StreamAnswer *a, Seen *seen, const JsonSpan *value) {
    if (seen->error || json_string(value, &a->error) < 0)
        return "\"error\" must be a text, once, without \\u0000";
    seen->error = true;
    return NULL;
}

static const char *read_retry(StreamAnswer *a, Seen *seen, const JsonSpan *value) {
    if (seen->retry)
        return "\"retry\" is there twice";
    seen->retry = true;
    a->never = value->type == JSON_BOOLEAN && value->text[0] == 'f';
    if (value->type == JSON_BOOLEAN)
        return NULL;
    if (json_double(value, &a->delay) < 0 || a->delay < 0 || a->delay > DELAY_MAX)
        return "\"retry\" must be false, true or seconds from 0 to a year";
    return NULL;
}

static const struct {
    const char *key;
    const char *(*read)(StreamAnswer *a, Seen *seen, const JsonSpan *value);
} members[] = {
    { "task", read_task },
    { "result", read_result },
    { "error", read_error },
    { "retry", read_retry },
};

static const char *read_member(StreamAnswer *a, Seen *seen, const char *key, const JsonSpan *value) {
    for (size_t i = 0; i < ELEMENTS(members); i++)
        if (streq(members[i].key, key))
            return members[i].read(a, seen, value);
    return "it may hold \"task\", \"result\", \"error\" and \"retry\" only";
}

int stream_answer_parse(const char *line, size_t len, StreamAnswer *ret, const char **ret_why) {
    _cleanup_(stream_answer_done) StreamAnswer a = { .delay = -1 };
    const char *why = NULL;
    size_t position = 0;
    JsonSpan object, value;
    Seen seen = {};
    int r = 1;

    *ret_why = "it is no JSON object";
    if (json_check(line, len, &object, NULL, NULL) < 0 || object.type != JSON_OBJECT)
        return -EBADMSG;
    while (!why && r > 0) {
        _cleanup_(freep) char *key = NULL;
        r = json_next_member(&object, &position, &key, &value);
        if (r == -ENOMEM)
            return r;
        if (r > 0)
            why = read_member(&a, &seen, key, &value);
    }
    if (!why && (r < 0 || !seen.task))
        why = "it has no \"task\"";
    if (!why && seen.result == seen.error)
        why = "it must have either \"result\" or \"error\"";
    if (why) {
        *ret_why = why;
        return -EBADMSG;
    }
    *ret = a;
    a = (StreamAnswer){};
    return 0;
}

/* ---- to the co-process ---- */

static void write_member(Buf *b, const char *key, const char *text) {
    buf_printf(b, "\"%s\": ", key);
    json_write_string(b, text, strlen(text));
    buf_puts(b, ", ");
}

int stream_write_task(
    Buf *b, const char *id, const char *name, const char *queue, unsigned attempt, const Payload *payload) {
    buf_putc(b, '{');
    write_member(b, "task", id);
    write_member(b, "name", name);
    write_member(b, "queue", queue);
    buf_printf(b, "\"attempt\": %u, \"payload\": ", attempt);
    int r = payload_write(payload, b);
    buf_puts(b, "}\n");
    return r;
}

void stream_write_cancel(Buf *b, const char *id) {
    buf_printf(b, "{\"cancel\": \"%s\"}\n", id);
}
