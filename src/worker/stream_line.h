/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The lines of Mode=stream, one JSON object each. To the co-process:
 *   {"task": ID, "name": NAME, "queue": QUEUE, "attempt": N, "payload": …}     keys in this order
 *   {"cancel": ID}                                  end it and answer, or be ended
 * From it, in any order of tasks and keys:
 *   {"task": ID, "result": …}
 *   {"task": ID, "error": TEXT, "retry": …}         retry: false, never; seconds to wait; left out: by the handler's policy
 * Knows no task and no process.
 */
#include "base/id.h"
#include "base/json.h"
#include "base/util.h"
#include "worker/payload.h"

#define STREAM_LINE_MAX ((size_t) 1024 * 1024) /* of an answer, without its newline */

typedef struct StreamAnswer {
    Id id;
    JsonSpan result; /* points into the line; text NULL: it failed */
    char *error;     /* owned */
    bool never;      /* must not be tried again */
    double delay;    /* seconds; < 0: not told */
} StreamAnswer;

/* A line without its newline. -EBADMSG: it is no answer, *ret_why (static) says why; -ENOMEM. */
int stream_answer_parse(const char *line, size_t len, StreamAnswer *ret, const char **ret_why);
void stream_answer_done(StreamAnswer *answer);

/* payload: JSON on one line, as PostgreSQL prints it. Errors: those of payload_write(). */
int stream_write_task(
    Buf *b, const char *id, const char *name, const char *queue, unsigned attempt, const Payload *payload);
void stream_write_cancel(Buf *b, const char *id);
