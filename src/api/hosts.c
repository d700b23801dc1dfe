/* SPDX-License-Identifier: MIT */
#include "api/hosts.h"

#include <strings.h>

#include "base/util.h"

/* Length of the name in front of ":PORT"; the whole length if what stands there is no port. */
static size_t name_length(const char *host) {
    const char *bracket = *host == '[' ? strchr(host, ']') : NULL;
    const char *colon = strchr(bracket ? bracket : host, ':');

    if (!colon || colon[1 + strspn(colon + 1, "0123456789")] != '\0')
        return strlen(host);
    return (size_t) (colon - host);
}

static bool matches(const char *entry, const char *host, size_t n) {
    return strcasecmp(entry, host) == 0 || (strlen(entry) == n && strncasecmp(entry, host, n) == 0);
}

bool hosts_allow(char *const *allowed, const char *host) {
    static const char *const always[] = { "localhost", "127.0.0.1", "[::1]" };

    if (!host)
        return true;
    size_t n = name_length(host);
    for (size_t i = 0; i < ELEMENTS(always); i++)
        if (matches(always[i], host, n))
            return true;
    for (; allowed && *allowed; allowed++)
        if (matches(*allowed, host, n))
            return true;
    return false;
}

const char *hosts_find_wrong(char *const *allowed) {
    static const char may[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:[]";

    for (; allowed && *allowed; allowed++)
        if ((*allowed)[strspn(*allowed, may)])
            return *allowed;
    return NULL;
}
