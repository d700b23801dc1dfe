/* SPDX-License-Identifier: MIT */
#include "store/array.h"

#include <stdarg.h>
#include <stdio.h>

void array_add(Buf *b, const char *value) {
    buf_putc(b, b->len == 0 ? '{' : ',');
    if (!value) {
        buf_puts(b, "NULL");
        return;
    }
    buf_putc(b, '"');
    for (;;) {
        size_t plain = strcspn(value, "\"\\");
        buf_add(b, value, plain);
        value += plain;
        if (!*value)
            break;
        buf_putc(b, '\\');
        buf_putc(b, *value++);
    }
    buf_putc(b, '"');
}

void array_addf(Buf *b, const char *format, ...) {
    char text[64]; /* numbers */
    va_list ap;

    va_start(ap, format);
    (void) vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    array_add(b, text);
}

const char *array_literal(Buf *b) {
    buf_puts(b, b->len == 0 ? "{}" : "}");
    return buf_error(b) < 0 ? "{}" : b->data;
}
