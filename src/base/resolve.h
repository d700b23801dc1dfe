/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Addresses of host names, without waiting: getaddrinfo(3) runs in a forked child, which writes what it finds to a
 * pipe and is killed when it takes too long. Sockets, files and signals of this process are not its own.
 */
#include <systemd/sd-event.h>

#include "base/util.h"

#define RESOLVE_LIMIT_USEC    (8 * USEC_PER_SEC)
#define RESOLVE_ADDRESSES_MAX 16 /* of one name */

typedef struct Resolve Resolve;

/*
 * Once, from the loop. answer: lines "NUMBER ADDRESS", NUMBER being that of the name in hosts, in getaddrinfo's order,
 * and "NUMBER !ERROR" for a name without any; names that the time did not suffice for are missing. Valid during the
 * call, in which resolve_free() may be called.
 */
typedef void (*ResolveCallback)(const char *answer, void *userdata);

/* hosts: NULL-terminated, copied by the fork. Errors: negative errno, and no callback comes. */
int resolve_start(
    Resolve **ret, sd_event *event, char *const hosts[], ResolveCallback callback, void *userdata);
Resolve *resolve_free(Resolve *r); /* returns NULL; the child is killed */
void resolve_freep(Resolve **r);
