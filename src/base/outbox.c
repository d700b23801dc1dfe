/* SPDX-License-Identifier: MIT */
#include "base/outbox.h"

#define BOOKKEEPING 64 /* bytes that a message takes beside its text, about */

struct OutboxMessage {
    OutboxMessage *next;
    char *text;
    size_t len;
};

int outbox_put(Outbox *o, Buf *message) {
    _cleanup_(buf_done) Buf b = *message;

    *message = (Buf){};
    if (buf_error(&b) < 0)
        return -ENOMEM;
    if (b.len == 0)
        return 0;
    if (outbox_full(o))
        return -ENOBUFS;
    OutboxMessage *m = malloc(sizeof(OutboxMessage));
    if (!m)
        return -ENOMEM;
    char *fitting = realloc(b.data, b.len);
    *m = (OutboxMessage){ .text = fitting ? fitting : b.data, .len = b.len };
    b.data = NULL;
    *(o->last ? &o->last->next : &o->first) = m;
    o->last = m;
    o->bytes += m->len + BOOKKEEPING;
    return 0;
}

size_t outbox_pieces(const Outbox *o, struct iovec *pieces, size_t n) {
    size_t count = 0, begin = o->taken;

    for (OutboxMessage *m = o->first; m && count < n; m = m->next) {
        pieces[count++] = (struct iovec){ .iov_base = m->text + begin, .iov_len = m->len - begin };
        begin = 0;
    }
    return count;
}

static void drop_first(Outbox *o) {
    OutboxMessage *m = o->first;

    o->first = m->next;
    if (!o->first)
        o->last = NULL;
    o->bytes -= m->len + BOOKKEEPING;
    free(m->text);
    free(m);
}

void outbox_taken(Outbox *o, size_t bytes) {
    o->taken += bytes;
    while (o->first && o->taken >= o->first->len) {
        o->taken -= o->first->len;
        drop_first(o);
    }
}

void outbox_done(Outbox *o) {
    while (o->first)
        drop_first(o);
    o->taken = 0;
}
