/* SPDX-License-Identifier: MIT */
#include "api/envelope.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/json.h"
#include "base/time.h"

/*
 * One reader a field. It fills the task, or complains. Returns 0, or -ENOMEM. None is asked about null, which is the
 * same as leaving the field out.
 */
typedef int (*FieldReader)(TaskNew *t, const JsonSpan *value, const char *field, Fields *complaints);

/* 0 or -ENOMEM; *ret stays NULL after a complaint. */
static int read_string(const JsonSpan *value, const char *field, char **ret, Fields *complaints) {
    if (value->type != JSON_STRING) {
        fields_add(complaints, field, "must be a string, not %s", json_type_name(value->type));
        return 0;
    }
    int r = json_string(value, ret);
    if (r == -EBADMSG) {
        fields_add(complaints, field, "must not hold \\u0000");
        return 0;
    }
    return r;
}

static int read_label(const JsonSpan *value, const char *field, char **ret, Fields *complaints) {
    int r = read_string(value, field, ret, complaints);

    if (r >= 0 && *ret && !task_label_valid(*ret))
        fields_add(complaints, field, "must be " TASK_LABEL_RULE ", not \"%s\"", FIELDS_QUOTE(*ret));
    return r;
}

static int read_name(TaskNew *t, const JsonSpan *value, const char *field, Fields *complaints) {
    return read_label(value, field, &t->name, complaints);
}

static int read_queue(TaskNew *t, const JsonSpan *value, const char *field, Fields *complaints) {
    return read_label(value, field, &t->queue, complaints);
}

static int read_payload(TaskNew *t, const JsonSpan *value, const char *field, Fields *complaints) {
    const char *why;

    /* PostgreSQL would say the same, but together with the neighbours' payloads. */
    if (json_check_jsonb(value->text, value->len, &why) < 0) {
        fields_add(complaints, field, "cannot be stored as jsonb: %s", why);
        return 0;
    }
    t->payload = strndup(value->text, value->len);
    return t->payload ? 0 : -ENOMEM;
}

static int read_priority(TaskNew *t, const JsonSpan *value, const char *field, Fields *complaints) {
    _cleanup_(freep) char *s = NULL;
    int r = read_string(value, field, &s, complaints);

    if (r < 0 || !s)
        return r;
    TaskPriority p = task_priority_from_string(s);
    if (p < 0)
        fields_add(
            complaints, field, "must be one of LOW, MEDIUM, HIGH, CRITICAL, not \"%s\"", FIELDS_QUOTE(s));
    else
        t->priority = p;
    return 0;
}

static int read_scheduled_at(TaskNew *t, const JsonSpan *value, const char *field, Fields *complaints) {
    _cleanup_(freep) char *s = NULL;
    int64_t usec;

    int r = read_string(value, field, &s, complaints);
    if (r < 0 || !s)
        return r;
    r = time_parse(s, &usec);
    if (r == -ERANGE)
        fields_add(complaints, field, "must be a time that exists, of the years 1970 to 9999, not \"%s\"",
            FIELDS_QUOTE(s));
    else if (r < 0)
        fields_add(complaints, field, "must be a time like 2023-10-01T10:00:00Z (RFC 3339), not \"%s\"",
            FIELDS_QUOTE(s));
    else
        return string_replace(&t->scheduled_at, time_format(usec, (char[TIME_TEXT_SIZE]){}));
    return 0;
}

static int read_max_attempts(TaskNew *t, const JsonSpan *value, const char *field, Fields *complaints) {
    long long n;

    if (value->type != JSON_NUMBER)
        fields_add(complaints, field, "must be a number, not %s", json_type_name(value->type));
    else if (json_whole(value, &n) < 0 || n < 1 || n > TASK_ATTEMPTS_MAX)
        fields_add(complaints, field, "must be a whole number from 1 to %d", TASK_ATTEMPTS_MAX);
    else
        t->max_attempts = (int) n;
    return 0;
}

static int read_timeout(TaskNew *t, const JsonSpan *value, const char *field, Fields *complaints) {
    static const double min =
        0.001; /* what PostgreSQL's microseconds and the loop's timers carry for certain */
    double seconds;

    if (value->type != JSON_NUMBER)
        fields_add(complaints, field, "must be a number of seconds, not %s", json_type_name(value->type));
    else if (json_double(value, &seconds) < 0 || !(seconds >= min && seconds <= TASK_TIMEOUT_MAX))
        fields_add(complaints, field, "must be a number of seconds from %g to %.0f", min, TASK_TIMEOUT_MAX);
    else
        t->timeout = seconds;
    return 0;
}

static int read_tag(const JsonSpan *value, size_t n, char **ret, Fields *complaints) {
    char field[32];

    (void) snprintf(field, sizeof(field), "tags/%zu", n);
    int r = read_string(value, field, ret, complaints);
    if (r >= 0 && *ret && (!**ret || strlen(*ret) > TASK_TAG_MAX))
        fields_add(complaints, field, "must have 1 to %d bytes", TASK_TAG_MAX);
    return r;
}

static int read_tags(TaskNew *t, const JsonSpan *value, const char *field, Fields *complaints) {
    size_t position = 0, n = 0;
    JsonSpan element;
    int r;

    if (value->type != JSON_ARRAY) {
        fields_add(complaints, field, "must be an array of strings, not %s", json_type_name(value->type));
        return 0;
    }
    t->tags = calloc(TASK_TAGS_MAX + 1, sizeof(char *));
    if (!t->tags)
        return -ENOMEM;
    for (size_t i = 0; (r = json_next_element(value, &position, &element)) > 0; i++) {
        if (i == TASK_TAGS_MAX) {
            fields_add(complaints, field, "must be at most %d strings", TASK_TAGS_MAX);
            return 0;
        }
        r = read_tag(&element, i, &t->tags[n], complaints);
        if (r < 0)
            return r;
        if (t->tags[n]) /* a refused one leaves no hole: the list ends at the first NULL */
            n++;
    }
    return r;
}

static int read_unique_key(TaskNew *t, const JsonSpan *value, const char *field, Fields *complaints) {
    int r = read_string(value, field, &t->unique_key, complaints);
    if (r < 0 || !t->unique_key)
        return r;
    bool control = false;
    for (const unsigned char *p = (const unsigned char *) t->unique_key; *p; p++)
        control |= *p < ' ' || *p == 0x7f;
    if (!*t->unique_key || strlen(t->unique_key) > TASK_UNIQUE_MAX || control)
        fields_add(complaints, field, "must have 1 to %d bytes and no control characters", TASK_UNIQUE_MAX);
    return 0;
}

static const struct {
    const char *name;
    FieldReader read;
} known[] = {
    { "name", read_name },
    { "payload", read_payload },
    { "queue", read_queue },
    { "priority", read_priority },
    { "scheduled_at", read_scheduled_at },
    { "max_attempts", read_max_attempts },
    { "timeout", read_timeout },
    { "tags", read_tags },
    { "unique_key", read_unique_key },
};
#define KNOWN_NAMES "name, payload, queue, priority, scheduled_at, max_attempts, timeout, tags, unique_key"

static int read_member(
    TaskNew *t, const char *key, const JsonSpan *value, unsigned *seen, unsigned *given, Fields *complaints) {
    for (size_t i = 0; i < ELEMENTS(known); i++) {
        if (!streq(known[i].name, key))
            continue;
        if (*seen & 1U << i) {
            fields_add(complaints, key, "is given twice");
            return 0;
        }
        *seen |= 1U << i;
        *given |= (unsigned) (value->type != JSON_NULL) << i;
        return value->type != JSON_NULL ? known[i].read(t, value, known[i].name, complaints) : 0;
    }
    fields_add(complaints, key, "is not a field of a task; there are " KNOWN_NAMES);
    return 0;
}

static int read_members(TaskNew *t, const JsonSpan *object, Fields *complaints) {
    unsigned seen = 0, given = 0;
    size_t position = 0;
    int r;

    for (;;) {
        _cleanup_(freep) char *key = NULL;
        JsonSpan value;

        r = json_next_member(object, &position, &key, &value);
        if (r == -EBADMSG)
            fields_add(complaints, "", "has a field whose name holds \\u0000");
        if (r <= 0)
            break;
        r = read_member(t, key, &value, &seen, &given, complaints);
        if (r < 0)
            return r;
    }
    if (r == -ENOMEM)
        return r;
    if (r == 0 && !(given & 1U)) /* the first of known[] */
        fields_add(complaints, "name", "is missing; it says which handler runs the task");
    return 0;
}

/* The whole text is one JSON value. */
static int check_body(const char *text, size_t len, JsonSpan *ret, Fields *complaints) {
    size_t offset;
    const char *why;

    int r = json_check(text, len, ret, &offset, &why);
    if (r == -ELOOP) {
        fields_add(complaints, "", "is nested deeper than %d levels at byte %zu", JSON_DEPTH_MAX, offset);
        return ENVELOPE_INVALID;
    }
    if (r < 0) {
        fields_add(complaints, "", "is not JSON at byte %zu of %zu: %s", offset, len, why);
        return ENVELOPE_MALFORMED;
    }
    return 0;
}

/* 0, or -ENOMEM; *ret is only to be used if there are no complaints. */
static int read_task(const JsonSpan *object, TaskNew **ret, Fields *complaints) {
    if (object->type != JSON_OBJECT) {
        fields_add(complaints, "", "must be an object with the fields " KNOWN_NAMES ", not %s",
            json_type_name(object->type));
        return 0;
    }
    _cleanup_(task_new_freep) TaskNew *t = calloc(1, sizeof(TaskNew));
    if (!t)
        return -ENOMEM;
    t->id = id_new();
    t->priority = TASK_PRIORITY_MEDIUM;
    int r = read_members(t, object, complaints);
    if (r >= 0 && !t->payload)
        r = string_replace(&t->payload, "null");
    if (r < 0)
        return r;
    *ret = TAKE_PTR(t);
    return 0;
}

int envelope_parse(const char *text, size_t len, TaskNew **ret, Fields *complaints) {
    JsonSpan object;

    int r = check_body(text, len, &object, complaints);
    if (r != 0)
        return r;
    _cleanup_(task_new_freep) TaskNew *t = NULL;
    r = read_task(&object, &t, complaints);
    if (r < 0)
        return r;
    if (complaints->count > 0)
        return ENVELOPE_INVALID;
    *ret = TAKE_PTR(t);
    return 0;
}

/* ---- many ---- */

void envelope_tasks_done(EnvelopeTasks *all) {
    for (size_t i = 0; i < all->count; i++)
        task_new_free(all->tasks[i]);
    free(all->tasks);
    *all = (EnvelopeTasks){};
}

static int read_element(const JsonSpan *element, EnvelopeTasks *all, Fields *complaints) {
    char prefix[32];

    (void) snprintf(prefix, sizeof(prefix), "%s%zu/", all->list, all->count);
    complaints->prefix = prefix;
    all->tasks[all->count] = NULL;
    int r = read_task(element, &all->tasks[all->count], complaints);
    complaints->prefix = NULL;
    if (r >= 0 && all->tasks[all->count])
        all->bytes += strlen(all->tasks[all->count]->payload);
    all->count++;
    return r;
}

static int read_elements(const JsonSpan *array, EnvelopeTasks *all, Fields *complaints) {
    const char *field = *all->list ? "tasks" : "";
    size_t position = 0;
    JsonSpan element;
    int r;

    all->tasks = calloc(ENVELOPE_TASKS_MAX, sizeof(TaskNew *));
    if (!all->tasks)
        return -ENOMEM;
    while ((r = json_next_element(array, &position, &element)) > 0) {
        if (all->count == ENVELOPE_TASKS_MAX) {
            fields_add(complaints, field, "must be at most %d tasks", ENVELOPE_TASKS_MAX);
            return 0;
        }
        r = read_element(&element, all, complaints);
        if (r < 0 || complaints->count > FIELDS_MAX)
            return MIN(r, 0);
    }
    if (r == 0 && all->count == 0)
        fields_add(complaints, field, "must be at least one task");
    return r;
}

static int read_conflict(const JsonSpan *value, bool *ret, Fields *complaints) {
    _cleanup_(freep) char *text = NULL;

    if (value->type == JSON_NULL)
        return 0;
    int r = value->type == JSON_STRING ? json_string(value, &text) : 0;
    if (r == -ENOMEM)
        return r;
    *ret = text && streq(text, "skip");
    if (!*ret && (!text || !streq(text, "fail")))
        fields_add(complaints, "on_conflict", "must be \"fail\" or \"skip\"");
    return 0;
}

static int find_tasks(const JsonSpan *object, JsonSpan *ret, bool *ret_skip, Fields *complaints) {
    size_t position = 0;
    bool found = false, conflict = false;
    int r;

    for (;;) {
        _cleanup_(freep) char *key = NULL;
        JsonSpan value;

        r = json_next_member(object, &position, &key, &value);
        if (r <= 0)
            break;
        if (streq(key, "on_conflict") && !conflict) {
            conflict = true;
            r = read_conflict(&value, ret_skip, complaints);
            if (r < 0)
                return r;
            continue;
        }
        if (!streq(key, "tasks") && !streq(key, "on_conflict"))
            fields_add(complaints, key, "is not a field of this call; there are tasks, on_conflict");
        else if (found || streq(key, "on_conflict"))
            fields_add(complaints, key, "is given twice");
        else if (value.type != JSON_ARRAY)
            fields_add(complaints, key, "must be an array of tasks, not %s", json_type_name(value.type));
        if (streq(key, "tasks")) {
            *ret = value;
            found = true;
        }
    }
    if (r == -EBADMSG)
        fields_add(complaints, "", "has a field whose name holds \\u0000");
    else if (r == 0 && !found)
        fields_add(complaints, "tasks", "is missing; it is the array of tasks to submit");
    return r == -ENOMEM ? r : 0;
}

int envelope_parse_many(const char *text, size_t len, EnvelopeTasks *ret, Fields *complaints) {
    JsonSpan body, array;

    *ret = (EnvelopeTasks){};
    int r = check_body(text, len, &body, complaints);
    if (r != 0)
        return r;
    array = body;
    ret->list = body.type == JSON_OBJECT ? "tasks/" : "";
    if (body.type == JSON_OBJECT)
        r = find_tasks(&body, &array, &ret->skip, complaints);
    else if (body.type != JSON_ARRAY)
        fields_add(complaints, "",
            "must be an array of tasks, or an object with it as the field tasks, not %s",
            json_type_name(body.type));
    if (r >= 0 && complaints->count == 0)
        r = read_elements(&array, ret, complaints);
    if (r < 0)
        return r;
    return complaints->count > 0 ? ENVELOPE_INVALID : 0;
}
