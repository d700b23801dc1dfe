/* SPDX-License-Identifier: MIT */
/* Values of the header Host: whatever is let in begins with a name of the list, and nothing but a port follows. */
#include "api/hosts.h"

#include "fuzz.h"

#include <strings.h>

static char *const allowed[] = { "queue.example", "other.example:8443", "[2001:db8::1]", NULL };

static bool stands_in_front(const char *name, const char *host) {
    size_t n = strlen(name);

    if (strncasecmp(name, host, n) != 0)
        return false;
    host += n;
    return *host == '\0' || (*host == ':' && host[1 + strspn(host + 1, "0123456789")] == '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const always[] = { "localhost", "127.0.0.1", "[::1]" };
    _cleanup_(freep) char *host = fuzz_string(data, size);
    bool may = false, in_list;

    for (size_t i = 0; i < ELEMENTS(always); i++)
        may |= stands_in_front(always[i], host);
    must(hosts_allow(NULL, host) == may);
    in_list = strcasecmp("other.example:8443", host) == 0 || stands_in_front(allowed[0], host) ||
              stands_in_front(allowed[2], host);
    must(hosts_allow(allowed, host) == (may || in_list));
    return 0;
}
