/* SPDX-License-Identifier: MIT */
#include "base/util.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/random.h>
#include <time.h>

int string_replace(char **s, const char *value) {
    char *copy = NULL;

    if (value) {
        copy = strdup(value);
        if (!copy)
            return -ENOMEM;
    }
    free(*s);
    *s = copy;
    return 0;
}

int string_printf(char **ret, const char *format, ...) {
    va_list ap;

    va_start(ap, format);
    int n = vasprintf(ret, format, ap);
    va_end(ap);
    if (n < 0) {
        *ret = NULL;
        return -ENOMEM;
    }
    return 0;
}

int parse_uint(const char *s, uint64_t max, uint64_t *ret) {
    uint64_t value = 0;

    if (!*s)
        return -EINVAL;
    for (; *s; s++) {
        if (*s < '0' || *s > '9')
            return -EINVAL;
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, *s - '0', &value))
            return -ERANGE;
    }
    if (value > max)
        return -ERANGE;
    *ret = value;
    return 0;
}

int parse_size(const char *s, uint64_t *ret) {
    static const char suffixes[] = "KMGT";
    char digits[24];
    uint64_t value;
    unsigned shift = 0;
    size_t n = strlen(s);

    if (n == 0 || n >= sizeof(digits))
        return -EINVAL;
    const char *suffix = strchr(suffixes, s[n - 1]);
    if (suffix) {
        shift = 10U * (unsigned) (suffix - suffixes + 1);
        n--;
    }
    memcpy(digits, s, n);
    digits[n] = '\0';
    int r = parse_uint(digits, UINT64_MAX >> shift, &value);
    if (r < 0)
        return r;
    *ret = value << shift;
    return 0;
}

uint32_t random_u32(void) {
    uint32_t bits;

    if (getrandom(&bits, sizeof(bits), GRND_NONBLOCK) != sizeof(bits))
        bits = (uint32_t) time(NULL) ^ (uint32_t) getpid();
    return bits;
}

/* Length of the well-formed sequence at s, 0 if there is none (RFC 3629, section 4). */
static size_t utf8_sequence(const unsigned char *s, size_t n) {
    static const struct {
        unsigned char first_min, first_max, second_min, second_max;
        size_t len;
    } forms[] = {
        { 0x00, 0x7f, 0x00, 0x00, 1 },
        { 0xc2, 0xdf, 0x80, 0xbf, 2 },
        { 0xe0, 0xe0, 0xa0, 0xbf, 3 },
        { 0xe1, 0xec, 0x80, 0xbf, 3 },
        { 0xed, 0xed, 0x80, 0x9f, 3 },
        { 0xee, 0xef, 0x80, 0xbf, 3 },
        { 0xf0, 0xf0, 0x90, 0xbf, 4 },
        { 0xf1, 0xf3, 0x80, 0xbf, 4 },
        { 0xf4, 0xf4, 0x80, 0x8f, 4 },
    };

    for (size_t i = 0; i < ELEMENTS(forms); i++) {
        if (s[0] < forms[i].first_min || s[0] > forms[i].first_max)
            continue;
        if (forms[i].len > n)
            return 0;
        if (forms[i].len > 1 && (s[1] < forms[i].second_min || s[1] > forms[i].second_max))
            return 0;
        for (size_t k = 2; k < forms[i].len; k++)
            if ((s[k] & 0xc0) != 0x80)
                return 0;
        return forms[i].len;
    }
    return 0;
}

bool utf8_valid(const char *s, size_t n) {
    while (n > 0) {
        size_t len = utf8_sequence((const unsigned char *) s, n);
        if (len == 0)
            return false;
        s += len;
        n -= len;
    }
    return true;
}

size_t utf8_whole(const char *s, size_t n) {
    for (size_t back = 1; back <= MIN(n, (size_t) 3); back++) {
        unsigned char c = (unsigned char) s[n - back];
        size_t len = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;
        if ((c & 0xc0) != 0x80)
            return len > back ? n - back : n;
    }
    return n;
}

void utf8_add(Buf *b, const char *s, size_t n) {
    for (size_t i = 0, len; i < n; i += MAX(len, (size_t) 1)) {
        len = s[i] ? utf8_sequence((const unsigned char *) s + i, n - i) : 0;
        len > 0 ? buf_add(b, s + i, len) : buf_puts(b, "\xef\xbf\xbd");
    }
}

void buf_done(Buf *b) {
    free(b->data);
    *b = (Buf){};
}

void buf_clear(Buf *b) {
    b->len = 0;
    b->failed = false;
    if (b->data)
        b->data[0] = '\0';
}

int buf_error(const Buf *b) {
    return b->failed ? -ENOMEM : 0;
}

char *buf_reserve(Buf *b, size_t n) {
    size_t need;

    if (b->failed)
        return NULL;
    if (__builtin_add_overflow(b->len, n, &need) || __builtin_add_overflow(need, 1, &need)) {
        b->failed = true;
        return NULL;
    }
    if (need > b->size) {
        size_t size = MAX(MAX(b->size * 2, need), (size_t) 64);
        char *data = realloc(b->data, size);
        if (!data) {
            b->failed = true;
            return NULL;
        }
        b->data = data;
        b->size = size;
    }
    return b->data + b->len;
}

int buf_read(Buf *b, int fd, size_t max) {
    ssize_t n;

    do {
        char *space = buf_reserve(b, 4096);
        if (!space)
            return -ENOMEM;
        n = read(fd, space, 4096);
        if (n < 0)
            return -errno;
        buf_grew(b, (size_t) n);
    } while (n > 0 && b->len <= max);
    return b->len > max ? -EFBIG : 0;
}

void buf_add(Buf *b, const void *data, size_t n) {
    char *p = buf_reserve(b, n);

    if (!p)
        return;
    if (n > 0)
        memcpy(p, data, n);
    buf_grew(b, n);
}

void buf_puts(Buf *b, const char *s) {
    buf_add(b, s, strlen(s));
}

void buf_putc(Buf *b, char c) {
    buf_add(b, &c, 1);
}

void buf_printf(Buf *b, const char *format, ...) {
    va_list ap;

    va_start(ap, format);
    int n = vsnprintf(NULL, 0, format, ap);
    va_end(ap);
    char *p = n < 0 ? NULL : buf_reserve(b, (size_t) n);
    if (!p) {
        b->failed = true;
        return;
    }
    va_start(ap, format);
    (void) vsnprintf(p, (size_t) n + 1, format, ap);
    va_end(ap);
    buf_grew(b, (size_t) n);
}
