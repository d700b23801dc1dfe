/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A strict reader of JSON text (RFC 8259), beside cJSON, which takes trailing bytes, duplicate keys, bad
 * UTF-8 and control characters, and turns 2^53+1 into a double. Checks a whole text without building
 * anything, cuts the members of an object out of it as they were written, and decodes strings and numbers.
 */
#include <stddef.h>

#define JSON_DEPTH_MAX  64
#define JSON_GROWTH_MAX (1024 * 1024)

typedef enum JsonType {
    JSON_NULL,
    JSON_BOOLEAN,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT,
} JsonType;

const char *json_type_name(JsonType type); /* "a string", for messages: "must be a string" */

/* A piece of the text that was read; points into it. */
typedef struct JsonSpan {
    const char *text;
    size_t len;
    JsonType type;
} JsonSpan;

/*
 * text must be one JSON value with nothing but white space around it: valid UTF-8, no byte order mark, no
 * control characters in strings, escapes complete (surrogates in pairs), at most JSON_DEPTH_MAX deep.
 * ret is the value without the white space. -EBADMSG it is not, -ELOOP too deep; *ret_offset, *ret_why
 * (static, English, "expected ',' or '}'") say where and what. ret, ret_offset and ret_why may be NULL, and
 * text when len is 0. Whether a key comes twice is for the caller to see.
 */
int json_check(const char *text, size_t len, JsonSpan *ret, size_t *ret_offset, const char **ret_why);

/*
 * Walks the members of a checked object. key is decoded (NUL-terminated, owned by the caller); value is as
 * written. Start with *position = 0. 1: a member was read; 0: there are no more; -ENOMEM; -EBADMSG key holds
 * \u0000.
 */
int json_next_member(const JsonSpan *object, size_t *position, char **ret_key, JsonSpan *ret_value);

/* Walks the elements of a checked array. 1, 0 as above. */
int json_next_element(const JsonSpan *array, size_t *position, JsonSpan *ret_value);

/* The member of this name of a text that is an object. -EBADMSG: it has none. */
int json_find(const char *text, const char *name, JsonSpan *ret);

/* Decodes a checked string. -EINVAL not a string; -EBADMSG it holds \u0000, which no C string can carry;
 * -ENOMEM. */
int json_string(const JsonSpan *value, char **ret);

/*
 * A checked number as double or whole number. -EINVAL not a number; double: -ERANGE beyond its range,
 * -ENOMEM; whole: -ERANGE has a fraction or does not fit, where 1.0 and 1e3 are whole, and not a digit is
 * lost.
 */
int json_double(const JsonSpan *value, double *ret);
int json_whole(const JsonSpan *value, long long *ret);

/* Appends text as a JSON string, quotes included; each byte of invalid UTF-8 is replaced by U+FFFD, so the
 * result is always valid JSON, and NUL by U+FFFD too, whose escape jsonb refuses. text may be NULL when len
 * is 0. */
struct Buf;
void json_write_string(struct Buf *b, const char *text, size_t len);

/* Would PostgreSQL's jsonb take this text? json_check(), no \u0000, and numbers within its range
 * (at most 131072 digits before the point and 16383 after it). jsonb writes 1e131071 with all its digits, so a short
 * text could become gigabytes; more than JSON_GROWTH_MAX bytes of those are refused as well. */
int json_check_jsonb(const char *text, size_t len, const char **ret_why);
