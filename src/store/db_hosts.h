/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The hosts of a connection string (libpq's "host=a,b port=5432,5433"): which of them are names, and what to tell libpq
 * once their addresses are known. Each address becomes a host of its own, whose name is kept for the verification of
 * certificates. Knows nothing of libpq's calls.
 */
#include "base/util.h"

typedef struct DbHosts {
    char **hosts, **ports; /* NULL-terminated, in parallel; a port may be "" */
    char **names;          /* NULL-terminated: those to be resolved, pointers into hosts */
} DbHosts;

/* host, port: libpq's parameters, NULL if not given. *ret has no names when there is nothing to resolve, or when libpq
 * is to complain of what is wrong. -ENOMEM. */
int db_hosts_parse(const char *host, const char *port, DbHosts *ret);
void db_hosts_done(DbHosts *h);
bool db_hosts_is_list(const DbHosts *h); /* of several hosts, that libpq will take */

/* libpq's parameters. error: of the first name that has no address. */
typedef struct DbAddresses {
    Buf host, hostaddr, port;
    size_t n;
    char *error;
} DbAddresses;

/* answer: of resolve_start(names). tried: how many attempts have failed; each begins with the next address, since libpq goes on
 * to it by itself only when the first one answers. n is 0 if nothing is left to connect to. -ENOMEM. */
int db_hosts_addresses(const DbHosts *h, const char *answer, size_t tried, DbAddresses *ret);
void db_addresses_done(DbAddresses *a);
