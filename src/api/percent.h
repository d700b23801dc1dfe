/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Percent-encoding (RFC 3986, section 2.1). Knows nothing of paths or queries.
 */
#include "base/util.h"

/* The byte that "%XX" at s stands for; -EINVAL: half a code, or "%00", which no C string can carry. */
int percent_byte(const char *s);

/* Decodes in place. False: half a code, "%00", or what it stands for is no UTF-8. */
bool percent_decode(char *s);

/* Appends text; what is neither a letter, a digit nor one of "-._~" is encoded. */
void percent_encode(Buf *b, const char *text);
