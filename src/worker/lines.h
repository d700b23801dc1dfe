/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What a task writes to standard error: cut into lines for the log, with a bound on how many of them, and its end
 * kept for the database. Takes any bytes: half a line waits for its end, one without end is logged in pieces, what
 * is no UTF-8 and NUL come out as U+FFFD.
 */
#include "base/log.h"
#include "base/util.h"

#define LINES_LINE_MAX ((size_t) 16 * 1024) /* bytes; a longer line is logged in pieces of about so many */
#define LINES_TAIL_MAX ((size_t) 16 * 1024)

/* At most `burst` lines in `interval_usec`, as LogRateLimitIntervalSec= and LogRateLimitBurst= of systemd.exec(5) say;
 * UINT64_MAX: no limit, or one for the whole attempt. */
typedef struct LinesLimit {
    uint64_t interval_usec, burst;
} LinesLimit;

/* Begins as zeroes; the limit is the caller's to set. Never more than about 48 KiB. */
typedef struct Lines {
    LinesLimit limit;
    Buf part;                           /* of the line whose end is awaited */
    bool begun;                         /* pieces of that line were logged */
    int level;                          /* … as this level */
    Buf tail;                           /* the last LINES_TAIL_MAX bytes */
    bool cut;                           /* … before which there were more */
    uint64_t since, passed, suppressed; /* of the limit's interval: its begin (CLOCK_MONOTONIC), lines */
} Lines;

void lines_done(Lines *l);

/* Lines may begin with a level, "<3>", as of sd-daemon(3); without one they are LOG_INFO. Empty ones are not logged.
 * How many the limit suppressed is logged when its interval is over, or at the end. */
void lines_add(Lines *l, const LogTask *task, const char *data, size_t n);
/* The program has ended: half a line is a line now. */
void lines_end(Lines *l, const LogTask *task);

/* Appends the tail as a JSON string, as it was written; one that lacks its beginning starts with a line. */
void lines_write_tail(const Lines *l, Buf *b);
static inline bool lines_any(const Lines *l) {
    return l->tail.len > 0;
}
