/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Characters and digits of JSON text, for the scanner (json.c) and for values (json_value.c).
 */
#include <stdbool.h>

#include "base/util.h"

/* Bytes that a string holds as they are: no quote, no backslash, no control character, ASCII. */
static const bool plain[256] = {
    [0x20 ... 0x21] = true,
    [0x23 ... 0x5b] = true,
    [0x5d ... 0x7f] = true,
};

static inline const char *plain_end(const char *p, const char *end) {
    while (p < end && plain[(unsigned char) *p])
        p++;
    return p;
}

static inline const char *ascii_start(const char *p, const char *end) {
    while (p < end && (unsigned char) *p >= 0x80)
        p++;
    return p;
}

/* Length of the one well-formed sequence at p, 0 if there is none. */
static inline size_t utf8_length(const char *p, const char *end) {
    for (size_t n = 1; n <= 4 && n <= (size_t) (end - p); n++)
        if (utf8_valid(p, n))
            return n;
    return 0;
}

/* The four digits of \uXXXX, or -1. */
static inline int hex4(const char *p, const char *end) {
    int value = 0;

    if (end - p < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        unsigned char c = (unsigned char) p[i], letter = c | 0x20;
        if (c >= '0' && c <= '9')
            value = value << 4 | (c - '0');
        else if (letter >= 'a' && letter <= 'f')
            value = value << 4 | (letter - 'a' + 10);
        else
            return -1;
    }
    return value;
}

static inline bool is_high_surrogate(int unit) {
    return unit >= 0xd800 && unit <= 0xdbff;
}

static inline bool is_low_surrogate(int unit) {
    return unit >= 0xdc00 && unit <= 0xdfff;
}

/* An exponent this large is as good as any larger one; sums with a text's length stay far from overflow. */
#define EXPONENT_CAP (LLONG_MAX / 4)

/* A number taken apart: where its e or E stands (or its end), and what follows it. */
static inline long long number_exponent(const char *p, const char *end, const char **ret_mantissa_end) {
    long long value = 0;

    while (p < end && *p != 'e' && *p != 'E')
        p++;
    *ret_mantissa_end = p;
    if (p == end)
        return 0;
    bool negative = *++p == '-';
    if (*p == '-' || *p == '+')
        p++;
    for (; p < end && value < EXPONENT_CAP / 10 - 1; p++)
        value = value * 10 + (*p - '0');
    return negative ? -value : value;
}

/* Digits of the mantissa before the point, sign not counted. */
static inline long long whole_digits(const char *p, const char *mantissa_end) {
    const char *start = p;

    while (p < mantissa_end && *p != '.')
        p++;
    return p - start;
}
