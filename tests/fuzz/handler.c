/* SPDX-License-Identifier: MIT */
/* Handler files: whatever stands in one, what is set is within its rules, and what is not has a rule that says so. */
#include "worker/handler.h"

#include "base/ini.h"
#include "store/task.h"

#include "fuzz.h"

static int on_entry(
    void *userdata, unsigned line, _unused_ const char *section, const char *key, const char *value) {
    const char *rule = NULL;
    int r = handler_set(userdata, key, value, &rule);

    must(line > 0);
    must((r >= 0 && r < HANDLER_KEYS_MAX) || r == -ENOENT || (r == -EINVAL && rule && *rule));
    return 0;
}

static void check(const Handler *h) {
    const Backoff *b = &h->backoff;

    must(h->executor);
    must(!h->argv || h->argv[0][0] == '/');
    must(h->max_attempts >= 1 && h->max_attempts <= TASK_ATTEMPTS_MAX);
    must(h->timeout_usec > 0 && h->concurrency > 0 && h->defer_max > 0);
    must(h->recycle.tasks > 0 && h->recycle.memory > 0 && h->recycle.usec > 0);
    must(b->n >= 1 && b->n <= BACKOFF_STEPS_MAX && (!b->exponential || b->n == 2));
    for (unsigned attempt = 0; attempt < 70; attempt++)
        must(backoff_delay(b, attempt) <= 366 * 86400 * USEC_PER_SEC);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    Handler h = {};
    unsigned line;

    must(handler_set_defaults(&h) == 0);
    check(&h);
    int r = ini_read_text((const char *) data, size, on_entry, &h, &line);
    must(r == 0 || r == -EBADMSG || r == -EFBIG);
    must(r != -EBADMSG || line > 0);
    check(&h);
    handler_free_keys(&h);
    return 0;
}
