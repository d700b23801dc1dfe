/* SPDX-License-Identifier: MIT */
/* Answers of a co-process from any bytes, and lines to it from any name: one line of JSON each. */
#include "worker/stream_line.h"

#include "fuzz.h"

static void check_answer(const char *line, size_t len) {
    StreamAnswer a;
    const char *why = NULL;
    int r = stream_answer_parse(line, len, &a, &why);

    must(r == 0 || (r == -EBADMSG && why && *why));
    if (r < 0)
        return;
    must(!a.error != !a.result.text);
    must(a.delay == -1 || (a.delay >= 0 && a.delay < 1e9));
    if (a.result.text) {
        must(a.result.text >= line && a.result.text + a.result.len <= line + len);
    }
    stream_answer_done(&a);
}

static void check_line(const Buf *b, size_t from) {
    must(buf_error(b) == 0 && b->data[b->len - 1] == '\n');
    must(memchr(b->data + from, '\n', b->len - from) == b->data + b->len - 1);
    must(json_check(b->data + from, b->len - from, NULL, NULL, NULL) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char id[] = "01993b1d-0001-7abc-9def-0123456789ab";
    _cleanup_(freep) char *text = fuzz_string(data, size);
    _cleanup_(buf_done) Buf b = {};

    check_answer((const char *) data, size);
    const Payload payload = { .text = (char[]){ "{\"a\": 1}" }, .file = -EBADF };
    must(stream_write_task(&b, id, text, text, 1, &payload) == 0);
    check_line(&b, 0);
    size_t from = b.len;
    stream_write_cancel(&b, id);
    check_line(&b, from);
    return 0;
}
