/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The envelope of a submission: the JSON object around a payload. Read strictly; the payload's bytes are carried
 * on as they are. Knows nothing of HTTP.
 */
#include "api/fields.h"
#include "store/task.h"

enum {
    ENVELOPE_MALFORMED = 1, /* not JSON; the one complaint says where */
    ENVELOPE_INVALID = 2,   /* JSON, but not a submission; the complaints name the fields */
};

/*
 * Reads {"name": …, "payload": …, …}. 0: *ret is the task, with an id of its own. Else one of the above, and
 * complaints tells why. -ENOMEM.
 */
int envelope_parse(const char *text, size_t len, TaskNew **ret, Fields *complaints);

#define ENVELOPE_TASKS_MAX 10000

/* The same of [{…}, …] or {"tasks": [{…}, …]}, 1 to ENVELOPE_TASKS_MAX of them; ret becomes the caller's to free with
 * envelope_tasks_done(), also after an error. */
typedef struct EnvelopeTasks {
    TaskNew **tasks;
    size_t count, bytes; /* bytes: of all payloads */
    bool skip;           /* "on_conflict": "skip" */
    const char *list;    /* what an element's fields begin with: "tasks/", "" where the body is the array */
} EnvelopeTasks;
int envelope_parse_many(const char *text, size_t len, EnvelopeTasks *ret, Fields *complaints);
void envelope_tasks_done(EnvelopeTasks *tasks);
