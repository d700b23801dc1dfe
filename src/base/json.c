/* SPDX-License-Identifier: MIT */
/*
 * One scanner without recursion serves the check and both walks: it runs over a text once, keeps one bit for
 * each open array or object, and never allocates. What was checked is decoded on demand, from its own bytes.
 */
#include "base/json.h"

#include <limits.h>

#include "base/json_text.h"

/* What PostgreSQL's numeric holds: digits before and after the point, and exponents it reads at all. */
#define NUMERIC_WHOLE_DIGITS    131072
#define NUMERIC_FRACTION_DIGITS 16383
#define NUMERIC_EXPONENT        (INT_MAX / 2) /* even of zero */

typedef struct Scan {
    const char *p, *end;
    const char *why;
    bool jsonb;       /* refuse what only jsonb refuses, too */
    long long growth; /* bytes by which its numbers are longer when jsonb writes them */
    unsigned depth;
    uint64_t objects; /* a bit for each open container, the innermost lowest: is it an object? */
} Scan;

_Static_assert(JSON_DEPTH_MAX <= 64, "Scan.objects has a bit for each level");

const char *json_type_name(JsonType type) {
    static const char *const names[] = {
        [JSON_NULL] = "null",
        [JSON_BOOLEAN] = "a boolean",
        [JSON_NUMBER] = "a number",
        [JSON_STRING] = "a string",
        [JSON_ARRAY] = "an array",
        [JSON_OBJECT] = "an object",
    };

    return names[type];
}

static int fail(Scan *s, const char *why) {
    s->why = why;
    return -EBADMSG;
}

static bool at(const Scan *s, char c) {
    return s->p < s->end && *s->p == c;
}

static bool take(Scan *s, char c) {
    if (!at(s, c))
        return false;
    s->p++;
    return true;
}

static void skip_blanks(Scan *s) {
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\n' || *s->p == '\r' || *s->p == '\t'))
        s->p++;
}

static bool skip_digits(Scan *s) {
    const char *start = s->p;

    while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
        s->p++;
    return s->p > start;
}

/* --- the scanner --- */

static int scan_unicode_escape(Scan *s) {
    int unit = hex4(s->p + 2, s->end);

    if (unit < 0)
        return fail(s, "expected four hexadecimal digits after \\u");
    if (unit == 0 && s->jsonb)
        return fail(s, "\\u0000 cannot be stored");
    if (is_low_surrogate(unit))
        return fail(s, "a low surrogate without a high one before it");
    if (is_high_surrogate(unit)) {
        const char *low = s->p + 6;
        if (s->end - low < 6 || low[0] != '\\' || low[1] != 'u' || !is_low_surrogate(hex4(low + 2, s->end)))
            return fail(s, "a high surrogate without a low one after it");
        s->p += 6;
    }
    s->p += 6;
    return 0;
}

static int scan_escape(Scan *s) {
    if (s->end - s->p < 2)
        return fail(s, "unfinished string");
    if (s->p[1] == 'u')
        return scan_unicode_escape(s);
    if (!s->p[1] || !strchr("\"\\/bfnrt", s->p[1]))
        return fail(s, "unknown escape in a string");
    s->p += 2;
    return 0;
}

static int scan_not_ascii(Scan *s) {
    const char *end = ascii_start(s->p, s->end);

    if (!utf8_valid(s->p, (size_t) (end - s->p))) {
        for (size_t n; (n = utf8_length(s->p, end)) > 0;)
            s->p += n;
        return fail(s, "invalid UTF-8");
    }
    s->p = end;
    return 0;
}

static int scan_string(Scan *s) {
    s->p++; /* the quote that brought us here */
    for (;;) {
        int r = 0;

        s->p = plain_end(s->p, s->end);
        if (s->p == s->end)
            return fail(s, "unfinished string");
        if (take(s, '"'))
            return 0;
        if (*s->p == '\\')
            r = scan_escape(s);
        else if ((unsigned char) *s->p >= 0x80)
            r = scan_not_ascii(s);
        else
            r = fail(s, "control character in a string");
        if (r < 0)
            return r;
    }
}

/* The digits that PostgreSQL writes this number with, which has no exponent then; 0: it does not fit. */
static long long numeric_digits(const char *p, const char *end) {
    const char *mantissa_end;

    p += *p == '-';
    long long exponent = number_exponent(p, end, &mantissa_end);
    long long whole = whole_digits(p, mantissa_end), fraction = mantissa_end - p - whole;
    if (fraction > 0)
        fraction--; /* the point */
    fraction = MAX(fraction - exponent, 0LL);
    if (exponent >= NUMERIC_EXPONENT || fraction > NUMERIC_FRACTION_DIGITS)
        return 0;
    for (; p < mantissa_end && (*p == '0' || *p == '.'); p++)
        whole -= *p == '0'; /* goes below zero for 0.001 */
    whole = p == mantissa_end ? 1 : MAX(whole + exponent, 1LL);
    return whole <= NUMERIC_WHOLE_DIGITS ? whole + fraction : 0;
}

static int check_number(Scan *s, const char *start) {
    const char *why = "number too large or too precise to be stored";
    long long digits = numeric_digits(start, s->p);

    s->growth += MAX(digits - (s->p - start), 0LL);
    if (digits > 0 && s->growth <= JSON_GROWTH_MAX)
        return 0;
    s->p = start;
    return fail(s, digits > 0 ? "numbers that take over 1 MiB more without their exponents" : why);
}

static int scan_number(Scan *s) {
    const char *start = s->p;

    take(s, '-');
    if (!take(s, '0') && !skip_digits(s))
        return fail(s, "expected a digit");
    if (take(s, '.') && !skip_digits(s))
        return fail(s, "expected a digit after the point");
    if (take(s, 'e') || take(s, 'E')) {
        if (!take(s, '-'))
            take(s, '+');
        if (!skip_digits(s))
            return fail(s, "expected a digit in the exponent");
    }
    return s->jsonb ? check_number(s, start) : 0;
}

static int scan_word(Scan *s) {
    static const char *const words[] = { "true", "false", "null" };

    for (size_t i = 0; i < ELEMENTS(words); i++) {
        size_t n = strlen(words[i]);
        if ((size_t) (s->end - s->p) >= n && memcmp(s->p, words[i], n) == 0) {
            s->p += n;
            return 0;
        }
    }
    return fail(s, "expected a value");
}

static JsonType type_of(char first) {
    switch (first) {
    case '{':
        return JSON_OBJECT;
    case '[':
        return JSON_ARRAY;
    case '"':
        return JSON_STRING;
    case 't':
    case 'f':
        return JSON_BOOLEAN;
    case 'n':
        return JSON_NULL;
    default:
        return JSON_NUMBER;
    }
}

static int scan_scalar(Scan *s) {
    if (s->p == s->end)
        return fail(s, "unexpected end");
    if (*s->p == '"')
        return scan_string(s);
    if (*s->p == '-' || (*s->p >= '0' && *s->p <= '9'))
        return scan_number(s);
    return scan_word(s);
}

/* A key, its colon and the blanks up to the value. */
static int scan_key(Scan *s) {
    skip_blanks(s);
    if (!at(s, '"'))
        return fail(s, "expected a key in quotes");
    int r = scan_string(s);
    if (r < 0)
        return r;
    skip_blanks(s);
    if (!take(s, ':'))
        return fail(s, "expected ':'");
    skip_blanks(s);
    return 0;
}

static char closer(const Scan *s) {
    return s->objects & 1 ? '}' : ']';
}

/* A bracket. 1: a first value follows; 0: it is empty, and s->p on its end. */
static int scan_open(Scan *s) {
    if (s->depth == JSON_DEPTH_MAX) {
        s->why = "nested too deep";
        return -ELOOP;
    }
    s->depth++;
    s->objects = s->objects << 1 | (*s->p == '{');
    s->p++;
    skip_blanks(s);
    if (at(s, closer(s)))
        return 0;
    if (s->objects & 1) {
        int r = scan_key(s);
        return r < 0 ? r : 1;
    }
    return 1;
}

/* Behind a value: closes what ends here, then goes on. 1: there is a next one; 0: the outermost ended. */
static int scan_next(Scan *s) {
    for (;;) {
        if (s->depth == 0)
            return 0;
        skip_blanks(s);
        if (!take(s, closer(s)))
            break;
        s->depth--;
        s->objects >>= 1;
    }
    if (!take(s, ','))
        return fail(s, s->objects & 1 ? "expected ',' or '}'" : "expected ',' or ']'");
    if (s->objects & 1) {
        int r = scan_key(s);
        return r < 0 ? r : 1;
    }
    skip_blanks(s);
    return 1;
}

/* One whole value, s->p on its first byte. */
static int scan_value(Scan *s) {
    int r;

    do {
        r = at(s, '[') || at(s, '{') ? scan_open(s) : scan_scalar(s);
        if (r == 0)
            r = scan_next(s);
    } while (r > 0);
    return r;
}

static int scan_text(Scan *s, JsonSpan *ret) {
    skip_blanks(s);
    if (s->end - s->p >= 3 && memcmp(s->p, "\xef\xbb\xbf", 3) == 0)
        return fail(s, "a byte order mark");
    const char *start = s->p;
    int r = scan_value(s);
    if (r < 0)
        return r;
    *ret = (JsonSpan){ .text = start, .len = (size_t) (s->p - start), .type = type_of(*start) };
    skip_blanks(s);
    if (s->p < s->end)
        return fail(s, "something after the value");
    return 0;
}

static int check(
    const char *text, size_t len, bool jsonb, JsonSpan *ret, size_t *ret_offset, const char **ret_why) {
    if (!text)
        text = "";
    Scan s = { .p = text, .end = text + len, .jsonb = jsonb };
    JsonSpan value;

    int r = scan_text(&s, &value);
    if (r < 0) {
        if (ret_offset)
            *ret_offset = (size_t) (s.p - text);
        if (ret_why)
            *ret_why = s.why;
        return r;
    }
    if (ret)
        *ret = value;
    return 0;
}

int json_check(const char *text, size_t len, JsonSpan *ret, size_t *ret_offset, const char **ret_why) {
    return check(text, len, false, ret, ret_offset, ret_why);
}

int json_check_jsonb(const char *text, size_t len, const char **ret_why) {
    return check(text, len, true, NULL, NULL, ret_why);
}

/* --- walks --- */

/* Opens the container or steps over the comma. 1: s is before a member or element; 0: there are no more. */
static int walk(const JsonSpan *container, size_t position, Scan *s) {
    *s = (Scan){ .p = container->text + position, .end = container->text + container->len };
    if (position == 0)
        s->p++;
    skip_blanks(s);
    if (s->end - s->p <= 1)
        return 0;
    take(s, ',');
    skip_blanks(s);
    return 1;
}

static int walk_value(const JsonSpan *container, Scan *s, size_t *position, JsonSpan *ret) {
    const char *start = s->p;
    int r = scan_value(s);

    if (r < 0)
        return r;
    *ret = (JsonSpan){ .text = start, .len = (size_t) (s->p - start), .type = type_of(*start) };
    *position = (size_t) (s->p - container->text);
    return 0;
}

int json_next_member(const JsonSpan *object, size_t *position, char **ret_key, JsonSpan *ret_value) {
    Scan s;
    JsonSpan value;

    if (walk(object, *position, &s) == 0)
        return 0;
    JsonSpan key = { .text = s.p, .type = JSON_STRING };
    int r = scan_string(&s);
    if (r < 0)
        return r;
    key.len = (size_t) (s.p - key.text);
    skip_blanks(&s);
    take(&s, ':');
    skip_blanks(&s);
    r = walk_value(object, &s, position, &value);
    if (r < 0)
        return r;
    r = json_string(&key, ret_key);
    if (r < 0)
        return r;
    *ret_value = value;
    return 1;
}

int json_next_element(const JsonSpan *array, size_t *position, JsonSpan *ret_value) {
    Scan s;

    if (walk(array, *position, &s) == 0)
        return 0;
    int r = walk_value(array, &s, position, ret_value);
    return r < 0 ? r : 1;
}

int json_find(const char *text, const char *name, JsonSpan *ret) {
    size_t position = 0;
    JsonSpan whole;
    int r = json_check(text, strlen(text), &whole, NULL, NULL);

    if (r >= 0)
        r = whole.type == JSON_OBJECT ? 1 : -EBADMSG;
    while (r > 0) {
        _cleanup_(freep) char *key = NULL;
        r = json_next_member(&whole, &position, &key, ret);
        if (r > 0 && streq(key, name))
            return 0;
    }
    return r < 0 ? r : -EBADMSG;
}
