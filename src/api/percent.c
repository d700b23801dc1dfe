/* SPDX-License-Identifier: MIT */
#include "api/percent.h"

static int hex_digit(char c) {
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    const char *p = c ? strchr(digits, c) : NULL;

    return p ? (int) ((p - digits) % 16) : -1;
}

int percent_byte(const char *s) {
    int high = hex_digit(s[1]), low = high < 0 ? -1 : hex_digit(s[2]);

    return low < 0 || high + low == 0 ? -EINVAL : high * 16 + low;
}

bool percent_decode(char *s) {
    char *to = s;
    const char *from = s;

    while (*from) {
        int byte = *from == '%' ? percent_byte(from) : *from;
        if (*from == '%' && byte < 0)
            return false;
        from += *from == '%' ? 3 : 1;
        *to++ = (char) byte;
    }
    *to = '\0';
    return utf8_valid(s, (size_t) (to - s));
}

void percent_encode(Buf *b, const char *text) {
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";

    for (; *text; text++)
        if (strchr(plain, *text))
            buf_putc(b, *text);
        else
            buf_printf(b, "%%%02X", (unsigned) (unsigned char) *text);
}
