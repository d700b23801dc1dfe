/* SPDX-License-Identifier: MIT */
/* Instants and spans from any text; instants that were read are written and read back, and compared with
 * gmtime_r(). */
#include "base/time.h"

#include "fuzz.h"

#include <time.h>

#define YEAR_10000 INT64_C(253402300800)

static void check_format(int64_t usec) {
    char text[TIME_TEXT_SIZE], libc[64];
    int64_t back, seconds = usec / 1000000 - (usec % 1000000 < 0);
    struct tm tm;

    time_format(usec, text);
    must(gmtime_r(&(time_t){ seconds }, &tm));
    int n = snprintf(libc, sizeof(libc), "%04d-%02d-%02dT%02d:%02d:%02d", tm.tm_year + 1900, tm.tm_mon + 1,
        tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
    must(strncmp(text, libc, (size_t) n) == 0);
    if (seconds >= 0 && seconds < YEAR_10000) {
        must(time_parse(text, &back) == 0);
        must(back == usec);
    } else {
        must(time_parse(text, &back) < 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    _cleanup_(freep) char *s = fuzz_string(data, size);
    int64_t usec = -42;
    uint64_t span;

    int r = time_parse(s, &usec);
    must(r == 0 || r == -EINVAL || r == -ERANGE);
    must(r == 0 ? usec >= 0 && usec / 1000000 < YEAR_10000 : usec == -42);
    if (r == 0)
        check_format(usec);
    if (size >= sizeof(usec)) {
        memcpy(&usec, data, sizeof(usec));
        check_format(usec);
    }

    r = time_parse_span(s, &span);
    must(r == 0 || r == -EINVAL || r == -ERANGE);
    if (r == 0) {
        char text[TIME_SPAN_SIZE];
        uint64_t back;
        must(time_parse_span(time_format_span(span, text), &back) == 0 && back == span);
    }
    return 0;
}
