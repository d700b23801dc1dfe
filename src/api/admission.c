/* SPDX-License-Identifier: MIT */
#include "api/admission.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>

struct AdmissionAddress {
    AdmissionAddress *next; /* of its bucket */
    struct in6_addr key;
    size_t count;
};

/* False: this machine. An IPv4 address is written as IPv6 does (RFC 4291, section 2.5.5.2). */
static bool key_of(const struct sockaddr *address, struct in6_addr *ret) {
    *ret = (struct in6_addr){};
    if (address->sa_family == AF_INET) {
        const struct in_addr *in = &((const struct sockaddr_in *) address)->sin_addr;
        ret->s6_addr[10] = ret->s6_addr[11] = 0xff;
        memcpy(ret->s6_addr + 12, in, sizeof(*in));
    } else if (address->sa_family == AF_INET6)
        *ret = ((const struct sockaddr_in6 *) address)->sin6_addr;
    else
        return false;
    if (IN6_IS_ADDR_V4MAPPED(ret))
        return ret->s6_addr[12] != 127;
    if (IN6_IS_ADDR_LOOPBACK(ret))
        return false;
    memset(ret->s6_addr + 8, 0, 8);
    return true;
}

static size_t bucket_of(const struct in6_addr *key) {
    uint32_t hash =
        2166136261U; /* FNV-1a; who chooses addresses to meet in one bucket gets a walk of his own ones */

    for (size_t i = 0; i < sizeof(key->s6_addr); i++)
        hash = (hash ^ key->s6_addr[i]) * 16777619U;
    return (hash ^ hash >> 16) % ELEMENTS(((Admission *) NULL)->buckets);
}

static AdmissionAddress *find(const Admission *a, const struct in6_addr *key) {
    AdmissionAddress *found = a->buckets[bucket_of(key)];

    while (found && !IN6_ARE_ADDR_EQUAL(&found->key, key))
        found = found->next;
    return found;
}

bool admission_allows(const Admission *a, const struct sockaddr *address) {
    struct in6_addr key;

    if (!key_of(address, &key))
        return true;
    const AdmissionAddress *found = find(a, &key);
    return !found || found->count < a->address_max;
}

int admission_enter(Admission *a, const struct sockaddr *address, AdmissionAddress **ret) {
    struct in6_addr key;

    *ret = NULL;
    if (!key_of(address, &key))
        return 0;
    AdmissionAddress *found = find(a, &key);
    if (!found) {
        AdmissionAddress **bucket = &a->buckets[bucket_of(&key)];
        found = malloc(sizeof(AdmissionAddress));
        if (!found)
            return -ENOMEM;
        *found = (AdmissionAddress){ .next = *bucket, .key = key };
        *bucket = found;
    }
    found->count++;
    *ret = found;
    return 0;
}

void admission_leave(Admission *a, AdmissionAddress *address) {
    if (!address || --address->count > 0)
        return;
    AdmissionAddress **p = &a->buckets[bucket_of(&address->key)];
    while (*p != address)
        p = &(*p)->next;
    *p = address->next;
    free(address);
}

const char *admission_text(const struct sockaddr *address, char buf[static ADMISSION_TEXT_SIZE]) {
    const void *place = address->sa_family == AF_INET
                            ? (const void *) &((const struct sockaddr_in *) address)->sin_addr
                            : (const void *) &((const struct sockaddr_in6 *) address)->sin6_addr;

    if (!inet_ntop(address->sa_family, place, buf, ADMISSION_TEXT_SIZE))
        (void) snprintf(buf, ADMISSION_TEXT_SIZE, "?");
    return buf;
}
