/* SPDX-License-Identifier: MIT */
/* Ids from any text, and from any 16 bytes: what was read is written the same way, but in lower case. */
#include "base/id.h"

#include "fuzz.h"

#include <strings.h>

static void check_text(const char *s) {
    Id id;
    int r = id_parse(s, &id);

    must(r == 0 || r == -EINVAL);
    must(r < 0 || strcasecmp(ID_TEXT(id), s) == 0);
}

static void check_bytes(const uint8_t *bytes) {
    Id id, back;
    int64_t usec = -1;

    memcpy(id.bytes, bytes, sizeof(id.bytes));
    must(id_parse(ID_TEXT(id), &back) == 0);
    must(id_equal(id, back));
    must((id_time(id, &usec) == 0) == (ID_TEXT(id)[14] == '7' && strchr("89ab", ID_TEXT(id)[19])));
    must((usec >= 0) == (id_time(id, &usec) == 0));

    Id new = id_new();
    must(id_time(new, &usec) == 0 && usec > 0);
    must(!id_equal(new, id));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    _cleanup_(freep) char *s = fuzz_string(data, size);

    check_text(s);
    if (size >= sizeof(Id))
        check_bytes(data);
    return 0;
}
