/* SPDX-License-Identifier: MIT */
#include "worker/lines.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/json.h"
#include "base/time.h"

void lines_done(Lines *l) {
    buf_done(&l->part);
    buf_done(&l->tail);
}

/* ---- the tail ---- */

static void tail_add(Lines *l, const char *data, size_t n) {
    Buf *t = &l->tail;

    if (n > LINES_TAIL_MAX) {
        data += n - LINES_TAIL_MAX;
        n = LINES_TAIL_MAX;
        l->cut = true;
    }
    size_t keep = MIN(t->len, LINES_TAIL_MAX - n);
    if (keep < t->len) {
        memmove(t->data, t->data + t->len - keep, keep);
        t->len = keep;
        l->cut = true;
    }
    buf_add(t, data, n);
}

void lines_write_tail(const Lines *l, Buf *b) {
    const char *text = l->tail.data;
    size_t n = l->tail.len;
    const char *newline = l->cut ? memchr(text, '\n', n) : NULL;

    if (newline && newline + 1 < text + n) {
        n -= (size_t) (newline + 1 - text);
        text = newline + 1;
    }
    json_write_string(b, text, n);
}

/* ---- lines ---- */

static void tell_suppressed(Lines *l, const LogTask *task) {
    char text[80];

    if (l->suppressed == 0)
        return;
    int n = snprintf(text, sizeof(text), "%" PRIu64 " line%s of standard error suppressed", l->suppressed,
        PLURAL(l->suppressed));
    log_task_line(task, LOG_WARNING, text, (size_t) n);
    l->suppressed = 0;
}

static bool passes(Lines *l, const LogTask *task) {
    uint64_t now = time_now_monotonic();

    if (l->since == 0 || now - l->since >= l->limit.interval_usec) {
        tell_suppressed(l, task);
        l->since = now;
        l->passed = 0;
    }
    if (l->passed < l->limit.burst) {
        l->passed++;
        return true;
    }
    l->suppressed++;
    return false;
}

/* A line, or a piece of one. */
static void line(Lines *l, const LogTask *task, const char *text, size_t n) {
    _cleanup_(buf_done) Buf clean = {};

    if (!l->begun) {
        bool told = n >= 3 && text[0] == '<' && text[1] >= '0' && text[1] <= '7' && text[2] == '>';
        l->level = told ? text[1] - '0' : LOG_INFO;
        text += told ? 3 : 0;
        n -= told ? 3 : 0;
    }
    if (n == 0 || !passes(l, task))
        return;
    if (!utf8_valid(text, n) || memchr(text, '\0', n)) {
        utf8_add(&clean, text, n);
        if (buf_error(&clean) == 0) {
            text = clean.data;
            n = clean.len;
        }
    }
    log_task_line(task, l->level, text, n);
}

/* Logs what stands in part: all of it at the end of the line, else as much as cuts no character in two. */
static void flush(Lines *l, const LogTask *task, bool end) {
    Buf *p = &l->part;
    size_t n = end ? p->len : utf8_whole(p->data, p->len);

    line(l, task, p->data, n);
    l->begun = !end;
    if (n < p->len)
        memmove(p->data, p->data + n, p->len - n);
    p->len -= n;
}

static void part_add(Lines *l, const char *data, size_t n) {
    buf_add(&l->part, data, n);
    if (buf_error(&l->part) < 0) {
        buf_clear(&l->part);
        l->suppressed++;
    }
}

void lines_add(Lines *l, const LogTask *task, const char *data, size_t n) {
    const char *end = data + n;

    tail_add(l, data, n);
    while (data < end) {
        const char *newline = memchr(data, '\n', (size_t) (end - data));
        size_t room = LINES_LINE_MAX - l->part.len, len = (size_t) ((newline ? newline : end) - data);
        bool ends = newline && len <= room;

        len = MIN(len, room);
        if (ends && l->part.len == 0 && !l->begun)
            line(l, task, data, len); /* most of them, from where they are */
        else {
            part_add(l, data, len);
            if (ends || l->part.len == LINES_LINE_MAX)
                flush(l, task, ends);
        }
        data += len + ends;
    }
}

void lines_end(Lines *l, const LogTask *task) {
    if (l->part.len > 0)
        flush(l, task, true);
    tell_suppressed(l, task);
}
