/* SPDX-License-Identifier: MIT */
#include "api/fields.h"

#include <stdarg.h>
#include <stdio.h>

void fields_done(Fields *f) {
    cJSON_Delete(f->list);
    *f = (Fields){};
}

const char *fields_quote(const char *text, char buf[static FIELDS_QUOTE_SIZE]) {
    static const char more[] = "…";
    size_t n = strlen(text), room = FIELDS_QUOTE_SIZE - sizeof(more);

    if (n > room)
        for (n = room; n > 0 && ((unsigned char) text[n] & 0xc0) == 0x80; n--)
            ; /* not in the middle of a character */
    memcpy(buf, text, n);
    (void) snprintf(buf + n, FIELDS_QUOTE_SIZE - n, "%s", text[n] ? more : "");
    if (!utf8_valid(buf, strlen(buf)))
        for (char *p = buf; *p; p++)
            if ((unsigned char) *p >= 0x80)
                *p = '?';
    return buf;
}

void fields_add(Fields *f, const char *field, const char *format, ...) {
    char detail[512], path[FIELDS_QUOTE_SIZE + 32];
    va_list ap;

    if (++f->count > FIELDS_MAX)
        return;
    va_start(ap, format);
    (void) vsnprintf(detail, sizeof(detail), format, ap);
    va_end(ap);
    (void) snprintf(path, sizeof(path), "%s%s", f->prefix ? f->prefix : "", FIELDS_QUOTE(field));
    if (f->prefix && !*field)
        path[strlen(path) - 1] = '\0'; /* the whole of it */
    if (!f->list)
        f->list = cJSON_CreateArray();
    cJSON *entry = cJSON_CreateObject();
    if (!cJSON_AddStringToObject(entry, "field", path) || !cJSON_AddStringToObject(entry, "detail", detail) ||
        !cJSON_AddItemToArray(f->list, entry)) {
        cJSON_Delete(entry);
        f->failed = true;
    }
}
