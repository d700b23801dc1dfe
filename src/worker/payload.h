/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A payload as a program's standard input: a file in memory that is whole and sealed before the program begins. So whatever
 * becomes of the worker, no reader takes a part of it for all of it. Manuals: memfd_create(2), F_ADD_SEALS(2const).
 */
#include "base/util.h"

/* A descriptor at the beginning of the text, close-on-exec, the caller's. Errors: those of memfd_create(2) and write(2). */
int payload_file(const char *text);
