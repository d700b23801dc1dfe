/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What is kept of a program's answer once its work is done. The work must not be done again for the answer's sake, so
 * what the database does not take is cut or replaced, and a note says so.
 */
#include "base/util.h"

#define RESULT_MAX (1024 * 1024) /* bytes of it that are kept */

/* *ret: JSON that jsonb takes: JSON as it is, other text as a string, nothing as NULL. *ret_note: one line about what could
 * not be kept as it was; NULL: all of it is. cut: there was more, which is gone. An answer that finds no memory is lost,
 * which the note says if there is memory for that. Both are the caller's to free. */
void result_make(const char *text, size_t n, bool cut, char **ret, char **ret_note);
