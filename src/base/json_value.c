/* SPDX-License-Identifier: MIT */
/*
 * Values of JSON text that was checked, decoded from their own bytes; and strings written.
 */
#include <math.h>

#include "base/json.h"
#include "base/json_text.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* --- decoding --- */

static char *put_utf8(char *out, int c) {
    if (c < 0x80) {
        *out++ = (char) c;
    } else if (c < 0x800) {
        *out++ = (char) (0xc0 | c >> 6);
        *out++ = (char) (0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *out++ = (char) (0xe0 | c >> 12);
        *out++ = (char) (0x80 | (c >> 6 & 0x3f));
        *out++ = (char) (0x80 | (c & 0x3f));
    } else {
        *out++ = (char) (0xf0 | c >> 18);
        *out++ = (char) (0x80 | (c >> 12 & 0x3f));
        *out++ = (char) (0x80 | (c >> 6 & 0x3f));
        *out++ = (char) (0x80 | (c & 0x3f));
    }
    return out;
}

/* The character of one checked escape, *p on its backslash; moves *p behind it. */
static int decode_escape(const char **p, const char *end) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";

    if ((*p)[1] != 'u') {
        int c = (unsigned char) to[strchr(from, (*p)[1]) - from];
        *p += 2;
        return c;
    }
    int unit = hex4(*p + 2, end);
    *p += 6;
    if (!is_high_surrogate(unit))
        return unit;
    int low = hex4(*p + 2, end);
    *p += 6;
    return 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
}

int json_string(const JsonSpan *value, char **ret) {
    if (value->type != JSON_STRING)
        return -EINVAL;

    const char *p = value->text + 1, *end = value->text + value->len - 1; /* between the quotes */
    char *text = malloc(value->len); /* an escape is longer than what it stands for */
    char *out = text;

    if (!text)
        return -ENOMEM;
    for (;;) {
        const char *escape = memchr(p, '\\', (size_t) (end - p));
        size_t run = (size_t) ((escape ? escape : end) - p);
        memcpy(out, p, run);
        out += run;
        if (!escape)
            break;
        p = escape;
        int c = decode_escape(&p, end);
        if (c == 0) {
            free(text);
            return -EBADMSG;
        }
        out = put_utf8(out, c);
    }
    *out = '\0';
    *ret = text;
    return 0;
}

int json_double(const JsonSpan *value, double *ret) {
    if (value->type != JSON_NUMBER)
        return -EINVAL;

    /* strtod() needs a NUL behind the number, and a point: pgmill never leaves the C locale. */
    char *copy = strndup(value->text, value->len);
    if (!copy)
        return -ENOMEM;
    double d = strtod(copy, NULL);
    free(copy);
    if (!isfinite(d))
        return -ERANGE;
    *ret = d;
    return 0;
}

int json_whole(const JsonSpan *value, long long *ret) {
    if (value->type != JSON_NUMBER)
        return -EINVAL;

    const char *p = value->text, *end = value->text + value->len, *mantissa_end;
    bool negative = *p == '-';
    long long whole = 0;

    p += negative;
    long long power = number_exponent(p, end, &mantissa_end); /* of ten, of the digit at hand, plus one */
    power += whole_digits(p, mantissa_end);
    for (; p < mantissa_end; p++) {
        if (*p == '.')
            continue;
        int digit = negative ? '0' - *p : *p - '0';
        if (power-- <= 0) {
            if (digit != 0)
                return -ERANGE;
        } else if (__builtin_mul_overflow(whole, 10, &whole) ||
                   __builtin_add_overflow(whole, digit, &whole)) {
            return -ERANGE;
        }
    }
    for (; power > 0 && whole != 0; power--)
        if (__builtin_mul_overflow(whole, 10, &whole))
            return -ERANGE;
    *ret = whole;
    return 0;
}

/* --- writing --- */

static void write_escape(Buf *b, unsigned char c) {
    static const char short_forms[] = {
        ['"'] = '"',
        ['\\'] = '\\',
        ['\b'] = 'b',
        ['\f'] = 'f',
        ['\n'] = 'n',
        ['\r'] = 'r',
        ['\t'] = 't',
    };

    if (c == 0)
        buf_puts(b, REPLACEMENT);
    else if (short_forms[c])
        buf_add(b, (char[]){ '\\', short_forms[c] }, 2);
    else
        buf_printf(b, "\\u%04x", c);
}

/* Bytes above ASCII, where at least one is not part of a well-formed sequence. */
static void write_broken_utf8(Buf *b, const char *p, const char *end) {
    while (p < end) {
        size_t n = utf8_length(p, end);
        if (n > 0)
            buf_add(b, p, n);
        else
            buf_puts(b, REPLACEMENT);
        p += MAX(n, (size_t) 1);
    }
}

void json_write_string(Buf *b, const char *text, size_t len) {
    if (!text)
        text = "";
    const char *p = text, *end = text + len, *run = p; /* from run to p all is fit to be copied */

    buf_putc(b, '"');
    while (p < end) {
        p = plain_end(p, end);
        const char *next = ascii_start(p, end);
        if (next > p && utf8_valid(p, (size_t) (next - p))) {
            p = next;
            continue;
        }
        buf_add(b, run, (size_t) (p - run));
        if (next > p)
            write_broken_utf8(b, p, next);
        else if (p < end)
            write_escape(b, (unsigned char) *next++);
        run = p = next;
    }
    buf_add(b, run, (size_t) (p - run));
    buf_putc(b, '"');
}
