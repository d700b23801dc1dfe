/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Small things every file uses: scoped ownership, checked strings, sizes.
 * Knows nothing of pgmill's own words.
 *
 * Errors, everywhere in pgmill: < 0 is a negative errno, forwarded unchanged; 0 is done;
 * > 0 is an outcome that the function's header lists.
 */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h> /* MIN, MAX */
#include <unistd.h>

#define _cleanup_(f)      __attribute__((cleanup(f)))
#define _printf_(fmt, va) __attribute__((format(printf, fmt, va)))
#define _unused_          __attribute__((unused))
#define _malloc_          __attribute__((malloc, warn_unused_result))

#define ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))

#define USEC_PER_SEC  UINT64_C(1000000)
#define USEC_PER_MSEC UINT64_C(1000)
#define NSEC_PER_USEC UINT64_C(1000)

/* Hands the value over and leaves NULL (or -1) behind, so a cleanup frees nothing. */
#define TAKE_PTR(p)              \
    ({                           \
        __typeof__(p) _p_ = (p); \
        (p) = NULL;              \
        _p_;                     \
    })
#define TAKE_FD(fd)     \
    ({                  \
        int _f_ = (fd); \
        (fd) = -EBADF;  \
        _f_;            \
    })

/* "%zu task%s", n, PLURAL(n) */
#define PLURAL(n) ((n) == 1 ? "" : "s")

static inline bool streq(const char *a, const char *b) {
    return strcmp(a, b) == 0;
}

static inline void freep(void *p) {
    free(*(void **) p);
}

/* Closes fd if it is one; always returns -EBADF, so `fd = close_fd(fd)` reads well. errno survives. */
static inline int close_fd(int fd) {
    if (fd >= 0) {
        int saved = errno;
        (void) close(fd);
        errno = saved;
    }
    return -EBADF;
}

static inline void closep(int *fd) {
    *fd = close_fd(*fd);
}

/* Replaces *s by a copy of value (NULL clears). -ENOMEM leaves *s as it was. */
int string_replace(char **s, const char *value);

/* asprintf() that returns -ENOMEM. */
int string_printf(char **ret, const char *format, ...) _printf_(2, 3);

/* A whole unsigned decimal number without sign or blanks, at most max. -EINVAL, -ERANGE. */
int parse_uint(const char *s, uint64_t max, uint64_t *ret);

/* "1048576", "64K", "1M", "2G" (powers of 1024, as systemd.unit(5) spells them) → bytes. -EINVAL, -ERANGE. */
int parse_size(const char *s, uint64_t *ret);

/* Random bits for jitter; never fails. */
uint32_t random_u32(void);

/* Well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms, at most U+10FFFF)? */
bool utf8_valid(const char *s, size_t n);

/* How much of s does not end within a character: n, or up to three bytes less. */
size_t utf8_whole(const char *s, size_t n);

/*
 * A growing run of bytes, always NUL-terminated behind its end once it holds something.
 * An append that finds no memory marks the buffer failed and every later one does nothing, so a
 * writer appends freely and asks once, with buf_error(), before the bytes are used.
 */
typedef struct Buf {
    char *data;
    size_t len, size;
    bool failed;
} Buf;

void buf_done(Buf *b);
void buf_clear(Buf *b); /* empty again, memory kept */
void buf_add(Buf *b, const void *data, size_t n);
void buf_puts(Buf *b, const char *s);
void buf_putc(Buf *b, char c);
void buf_printf(Buf *b, const char *format, ...) _printf_(2, 3);
int buf_error(const Buf *b); /* 0 or -ENOMEM */

/* Appends text with U+FFFD for each NUL and each byte that is no UTF-8. */
void utf8_add(Buf *b, const char *s, size_t n);

/* Appends all there is to read. Errors: read(2)'s; -EFBIG more than max bytes in the buffer, -ENOMEM. */
int buf_read(Buf *b, int fd, size_t max);

/* Room for n more bytes behind the end; NULL when there is no memory. Then buf_grew(n) after filling. */
char *buf_reserve(Buf *b, size_t n);
static inline void buf_grew(Buf *b, size_t n) {
    b->len += n;
    b->data[b->len] = '\0';
}
