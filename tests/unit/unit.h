/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * cmocka with the headers it wants, and checks for tables: they name the row that failed. Keep one test per rule,
 * one row per case; a test that no change of the code could break does not belong here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/util.h"

#define expect_true(row, condition)                                   \
    do {                                                              \
        if (!(condition))                                             \
            fail_msg("%s: not so: %s", (row), #condition);            \
    } while (0)

#define expect_number(row, is, should)                                                         \
    do {                                                                                       \
        long long _is_ = (long long) (is), _should_ = (long long) (should);                    \
        if (_is_ != _should_)                                                                  \
            fail_msg("%s: %s is %lld, should be %lld", (row), #is, _is_, _should_);            \
    } while (0)

#define expect_text(row, is, should)                                                                    \
    do {                                                                                                \
        const char *_is_ = (is), *_should_ = (should);                                                  \
        if (!streq(_is_, _should_))                                                                     \
            fail_msg("%s: %s is \"%s\", should be \"%s\"", (row), #is, _is_, _should_);                 \
    } while (0)

/* Set to let malloc(), realloc(), strdup() and strndup() of the code under test fail; see unit.c. */
extern bool unit_no_memory;
