/* SPDX-License-Identifier: MIT */
#include "base/digest.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <sys/random.h>

/* Looked up once: that takes longer than the digest of a token. Its configuration may name providers that a static
 * executable cannot load. */
static const EVP_MD *sha256(void) {
    static EVP_MD *found;

    if (!found) {
        (void) OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
        found = EVP_MD_fetch(NULL, "SHA2-256", NULL);
    }
    return found;
}

int digest_of(const void *data, size_t n, Digest *ret) {
    const EVP_MD *md = sha256();

    if (!md)
        return -EOPNOTSUPP;
    return EVP_Digest(data, n, ret->bytes, NULL, md, NULL) == 1 ? 0 : -ENOMEM;
}

const char *digest_hex(const Digest *d, char buf[static DIGEST_HEX_SIZE]) {
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < DIGEST_SIZE; i++) {
        buf[2 * i] = digits[d->bytes[i] >> 4];
        buf[2 * i + 1] = digits[d->bytes[i] & 15];
    }
    buf[DIGEST_HEX_SIZE - 1] = '\0';
    return buf;
}

static int digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int digest_parse(const char *hex, Digest *ret) {
    for (size_t i = 0; i < DIGEST_SIZE; i++) {
        int high = digit(hex[2 * i]), low = high < 0 ? -1 : digit(hex[2 * i + 1]);
        if (low < 0)
            return -EINVAL;
        ret->bytes[i] = (uint8_t) (high * 16 + low);
    }
    return 0;
}

bool digest_equal(const Digest *a, const Digest *b) {
    return CRYPTO_memcmp(a->bytes, b->bytes, DIGEST_SIZE) == 0;
}

int digest_random(void *ret, size_t n) {
    uint8_t *p = ret;

    while (n > 0) {
        ssize_t got = getrandom(p, n, 0);
        if (got < 0 && errno != EINTR)
            return -errno;
        if (got > 0) {
            p += got;
            n -= (size_t) got;
        }
    }
    return 0;
}
