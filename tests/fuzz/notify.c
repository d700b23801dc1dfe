/* SPDX-License-Identifier: MIT */
/* Notification datagrams: what is read of one is within bounds and within the datagram, and reading it twice agrees. */
#include "worker/notify.h"

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *text = (const char *) data;
    NotifyMessage m, again;

    if (notify_parse(text, size, &m) < 0) {
        must(memchr(text, '\0', size - 1));
        return 0;
    }
    must(m.progress == -1 || (m.progress >= 0 && m.progress <= 100));
    if (m.status) {
        must(m.status > text && m.status + m.status_len <= text + size);
        must(!memchr(m.status, '\n', m.status_len) && !memchr(m.status, '\0', m.status_len));
    }
    must(notify_parse(text, size, &again) == 0);
    must(m.alive == again.alive && m.trigger == again.trigger && m.extend_usec == again.extend_usec &&
         m.progress == again.progress && m.status == again.status && m.status_len == again.status_len);
    return 0;
}
