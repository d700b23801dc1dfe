/* SPDX-License-Identifier: MIT */
#include "worker/result.h"

#include <stdio.h>

#include "base/json.h"

static void note(Buf *notes, const char *what, const char *why) {
    buf_printf(notes, "%s%s%s%s", notes->len > 0 ? "; " : "", what, why ? ": " : "", why ? why : "");
}

/* What is no JSON that jsonb takes. */
static int write_text(Buf *b, Buf *notes, const char *text, size_t n) {
    _cleanup_(buf_done) Buf clean = {};

    if (!utf8_valid(text, n) || memchr(text, '\0', n)) {
        note(notes, "NUL bytes and bytes that are not UTF-8 are replaced by U+FFFD", NULL);
        utf8_add(&clean, text, n);
        text = clean.data;
        n = clean.len;
    }
    if (buf_error(&clean) >= 0)
        json_write_string(b, text, n);
    return buf_error(&clean) < 0 ? -ENOMEM : buf_error(b);
}

static int write_answer(Buf *b, Buf *notes, const char *text, size_t n, bool cut) {
    const char *why;
    char kept[32];

    if (cut) {
        n = utf8_whole(text, n);
        (void) snprintf(kept, sizeof(kept), "%zu bytes", n);
        note(notes, "cut, kept as text", kept);
        return write_text(b, notes, text, n);
    }
    if (n == 0)
        return 0;
    if (json_check(text, n, NULL, NULL, NULL) < 0)
        return write_text(b, notes, text, n);
    if (json_check_jsonb(text, n, &why) < 0) {
        note(notes, "kept as text, since the database does not take this JSON", why);
        return write_text(b, notes, text, n);
    }
    buf_add(b, text, n);
    return buf_error(b);
}

void result_make(const char *text, size_t n, bool cut, char **ret, char **ret_note) {
    _cleanup_(buf_done) Buf b = {}, notes = {};

    if (write_answer(&b, &notes, text, n, cut) < 0)
        note(&notes, "lost, out of memory", NULL);
    else
        *ret = TAKE_PTR(b.data);
    if (buf_error(&notes) == 0)
        *ret_note = TAKE_PTR(notes.data);
}
