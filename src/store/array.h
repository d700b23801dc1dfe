/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Array parameters as PostgreSQL literals: {"a","b",NULL}. Every element is quoted, so any text is safe.
 * Start with an empty Buf, add, and take the literal; buf_error() says whether memory lasted.
 */
#include "base/util.h"

void array_add(Buf *b, const char *value); /* NULL: NULL */
void array_addf(Buf *b, const char *format, ...) _printf_(2, 3);
const char *array_literal(Buf *b); /* "{}" if nothing was added */
