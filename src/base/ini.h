/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Reads INI files in unit-file manners: [Section], Key=Value, '#' and ';' comments. The configuration and handler files
 * are such. The only file that knows libinih.
 */
#include <stddef.h>

/*
 * entry is called for each assignment; it returns 0, or a negative errno that ends the reading.
 * Errors: errno of opening and reading; -EBADMSG a line that is none of these, is too long or holds a NUL,
 * *ret_line says which;
 * -EFBIG over 64 KiB.
 */
typedef int (*IniEntry)(
    void *userdata, unsigned line, const char *section, const char *key, const char *value);
int ini_read_file(const char *path, IniEntry entry, void *userdata, unsigned *ret_line);
/* The same from memory. */
int ini_read_text(const char *text, size_t len, IniEntry entry, void *userdata, unsigned *ret_line);
