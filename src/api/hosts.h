/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The names this server answers to. Without this list any web page could make its visitor's browser talk to a
 * service on the loopback interface under a name of its own (DNS rebinding).
 */
#include <stdbool.h>

/*
 * host: a Host header's value, "NAME", "NAME:PORT", "[ADDRESS]:PORT"; NULL when there is none, which only HTTP/1.0
 * clients may do and no browser does. Allowed are localhost, 127.0.0.1 and [::1] with any port, and what is in
 * allowed (NULL-terminated, may be NULL): a name for any port, or a name with a port. Upper and lower case are one.
 */
bool hosts_allow(char *const *allowed, const char *host);

/* The first one of allowed that no Host header can match: a URL, a pattern, a name that is not in ASCII. NULL: none. */
const char *hosts_find_wrong(char *const *allowed);
