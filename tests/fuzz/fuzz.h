/* SPDX-License-Identifier: MIT */
#pragma once
/* What every fuzz target needs: its entry point, and a check that stays in release builds. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define must(condition)                                                             \
    do {                                                                            \
        if (!(condition)) {                                                         \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                \
        }                                                                           \
    } while (0)

/* The input as a C string, cut at its first NUL. */
static inline char *fuzz_string(const uint8_t *data, size_t size) {
    char *s = strndup((const char *) data, size);

    must(s);
    return s;
}
