/* SPDX-License-Identifier: MIT */
/*
 * The time and rand_a, its twelve neighbours, are one 60-bit number that only ever grows in a process (RFC 9562,
 * section 6.2, method 1), whatever the clock does. The other bits are random, straight from the kernel: libuuid's own
 * generators make seven system calls an id, which was a tenth of what a submission cost. libuuid reads and writes
 * the text.
 */
#include "base/id.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <uuid/uuid.h>

_Static_assert(sizeof(Id) == sizeof(uuid_t), "an Id is a uuid_t in a struct");

#define COUNTER_BITS 12
#define COUNTER_SEED 0x7ff /* a new millisecond starts in the lower half, to leave room to count */

static uint64_t milliseconds(const Id *id) {
    uint64_t ms = 0;

    for (int i = 0; i < 6; i++)
        ms = ms << 8 | id->bytes[i];
    return ms;
}

static void set_milliseconds(Id *id, uint64_t ms) {
    for (int i = 5; i >= 0; i--, ms >>= 8)
        id->bytes[i] = (uint8_t) ms;
}

/* The next number after every earlier one. A counter that runs over carries into the millisecond. */
static uint64_t next_stamp(uint64_t ms, unsigned seed) {
    static _Atomic uint64_t last;
    uint64_t previous = atomic_load(&last), stamp;

    do {
        bool later = ms > previous >> COUNTER_BITS;
        stamp = later ? ms << COUNTER_BITS | seed : previous + 1;
    } while (!atomic_compare_exchange_weak(&last, &previous, stamp));
    return stamp;
}

Id id_new(void) {
    struct timespec now = {};
    Id id;

    (void) clock_gettime(CLOCK_REALTIME, &now);
    arc4random_buf(id.bytes, sizeof(id.bytes));
    uint64_t stamp = next_stamp((uint64_t) now.tv_sec * 1000 + (uint64_t) now.tv_nsec / 1000000,
        (id.bytes[6] << 8 | id.bytes[7]) & COUNTER_SEED);
    set_milliseconds(&id, stamp >> COUNTER_BITS);
    id.bytes[6] = (uint8_t) (0x70 | (stamp >> 8 & 0x0f)); /* version 7 */
    id.bytes[7] = (uint8_t) stamp;
    id.bytes[8] = (uint8_t) (0x80 | (id.bytes[8] & 0x3f)); /* variant 10 */
    return id;
}

int id_parse(const char *s, Id *ret) {
    uuid_t bytes;

    if (uuid_parse(s, bytes) < 0)
        return -EINVAL;
    memcpy(ret->bytes, bytes, sizeof(bytes));
    return 0;
}

const char *id_format(Id id, char buf[static ID_TEXT_SIZE]) {
    uuid_unparse_lower(id.bytes, buf);
    return buf;
}

int id_time(Id id, int64_t *ret_usec) {
    if (id.bytes[6] >> 4 != 7 || id.bytes[8] >> 6 != 2)
        return -EINVAL;
    *ret_usec = (int64_t) milliseconds(&id) * 1000;
    return 0;
}

bool id_equal(Id a, Id b) {
    return id_compare(&a, &b) == 0;
}

int id_compare(const void *a, const void *b) {
    return memcmp(a, b, sizeof(Id));
}
