/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * UUIDv7 ids (RFC 9562) that carry their creation time to the millisecond. The only file that knows libuuid.
 */
#include <stdbool.h>
#include <stdint.h>

typedef struct Id {
    uint8_t bytes[16];
} Id;

#define ID_TEXT_SIZE 37 /* 36 characters and NUL */

/* A new id, which sorts behind every earlier one of this process, even when the clock was set back. Never
 * fails. */
Id id_new(void);

/* The 8-4-4-4-12 form, hexadecimal digits in either case, any version. -EINVAL. */
int id_parse(const char *s, Id *ret);

/* Lower case. Returns buf. */
const char *id_format(Id id, char buf[static ID_TEXT_SIZE]);
#define ID_TEXT(id) id_format((id), (char[ID_TEXT_SIZE]){})

/* Microseconds since 1970 of a version 7 id (millisecond steps); -EINVAL for another version. */
int id_time(Id id, int64_t *ret_usec);

bool id_equal(Id a, Id b);
int id_compare(const void *a, const void *b); /* for qsort() and bsearch() of Id */
