/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * SHA-256 (FIPS 180-4), and bits that nobody can guess. The only file that knows libcrypto.
 */
#include "base/util.h"

#define DIGEST_SIZE     32
#define DIGEST_HEX_SIZE (2 * DIGEST_SIZE + 1) /* with its NUL */

typedef struct Digest {
    uint8_t bytes[DIGEST_SIZE];
} Digest;

/* Errors: -ENOMEM, -EOPNOTSUPP where libcrypto was told to have no SHA-256. */
int digest_of(const void *data, size_t n, Digest *ret);

/* 64 lower-case digits and a NUL; returns buf. */
const char *digest_hex(const Digest *d, char buf[static DIGEST_HEX_SIZE]);

/* The same from 64 digits, either case; what follows them is not looked at. -EINVAL. */
int digest_parse(const char *hex, Digest *ret);

/* Takes the same time whatever differs. */
bool digest_equal(const Digest *a, const Digest *b);

/* For secrets; waits until the kernel has enough of them, which it has soon after booting. Errors: errno. */
int digest_random(void *ret, size_t n);
