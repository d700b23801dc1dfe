/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What a task is given. A small payload is a text that came with the claim. A large one is a file in memory, filled part by
 * part. As a program's standard input it is always such a file, whole and sealed before the program begins: whatever
 * becomes of the worker, no reader takes a part of it for all of it. Manuals: memfd_create(2), F_ADD_SEALS(2const).
 */
#include "base/util.h"

typedef struct Payload {
    char *text;  /* NULL: it is a file, or not here */
    int file;    /* < 0: none; a negative errno other than -EBADF: it could not be kept */
    bool whole;  /* all of it is here, or was */
    size_t size; /* bytes of the file so far; stays when it is handed over, since its reader keeps it */
} Payload;

static inline Payload payload_none(void) {
    return (Payload){ .file = -EBADF };
}
void payload_done(Payload *p); /* gives all of it back */

/* One part more of a large one, n hexadecimal digits; it is whole with `all` bytes. What fails shows when it is used. */
void payload_add(Payload *p, const char *hex, size_t n, size_t all);

/* The whole of it, as a descriptor at its beginning, close-on-exec, which is the caller's now. Errors: those of
 * memfd_create(2) and write(2), also of payload_add(). */
int payload_file(Payload *p);
/* … or appended to b. Errors: the same. */
int payload_write(const Payload *p, Buf *b);
