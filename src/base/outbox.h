/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Messages on their way to a reader that may be slow: kept in their order, up to a bound, and each given back to the
 * allocator when it has been taken. Knows no descriptor.
 */
#include <sys/uio.h>

#include "base/util.h"

typedef struct OutboxMessage OutboxMessage;

/* Begins as zeroes but for max. */
typedef struct Outbox {
    size_t max;   /* with so many bytes or more it is full; so it holds these and one message at most */
    size_t bytes; /* of all messages, their bookkeeping included */
    size_t taken; /* of the first one */
    OutboxMessage *first, *last;
} Outbox;

static inline bool outbox_empty(const Outbox *o) {
    return !o->first;
}
static inline bool outbox_full(const Outbox *o) {
    return o->bytes >= o->max;
}
/* A reader has a part of a message, and waits for the rest. */
static inline bool outbox_begun(const Outbox *o) {
    return o->taken > 0;
}

/* Takes what stands in message, which is empty afterwards, also on error. -ENOBUFS: it is full; -ENOMEM, also for a
 * message that failed. */
int outbox_put(Outbox *o, Buf *message);

/* The first bytes, in at most n pieces. Answers how many pieces there are. */
size_t outbox_pieces(const Outbox *o, struct iovec *pieces, size_t n);
/* So many bytes of them were taken. */
void outbox_taken(Outbox *o, size_t bytes);
void outbox_done(Outbox *o); /* empty again */
