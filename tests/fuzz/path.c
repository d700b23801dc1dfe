/* SPDX-License-Identifier: MIT */
/* Paths and percent-encoding: what was decoded encodes and decodes to itself, and finds the same route. */
#include "api/percent.h"
#include "api/route.h"

#include "fuzz.h"

#include <stdio.h>

static void check_decode(char *s) {
    _cleanup_(freep) char *copy = strdup(s);
    _cleanup_(buf_done) Buf encoded = {};

    must(copy);
    if (!percent_decode(copy) || !*copy)
        return;
    percent_encode(&encoded, copy);
    must(percent_decode(encoded.data) && streq(encoded.data, copy));
}

static void check_route(const Route *route, const char *path) {
    char capture[ROUTE_SEGMENT_SIZE], again[ROUTE_SEGMENT_SIZE];
    _cleanup_(buf_done) Buf canonical = {};
    const char *brace = strchr(route->path, '{');

    if (!route_match(route->path, path, capture))
        return;
    must(strlen(capture) < ROUTE_SEGMENT_SIZE && (*capture != '\0') == (brace != NULL));
    if (!brace)
        return;
    buf_add(&canonical, route->path, (size_t) (brace - route->path));
    percent_encode(&canonical, capture);
    buf_puts(&canonical, strchr(brace, '}') + 1);
    if (canonical.len < 3 * ROUTE_SEGMENT_SIZE)
        must(route_match(route->path, canonical.data, again) && streq(again, capture));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    _cleanup_(freep) char *s = fuzz_string(data, size);

    check_decode(s);
    for (const Route *route = route_table(); route->method; route++)
        check_route(route, s);
    return 0;
}
