/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The query of a request: known parameters, percent-decoded (RFC 3986, section 2.1).
 */
#include "api/fields.h"
#include "api/http.h"

#define QUERY_MAX 12 /* parameters a route may know */

typedef struct Query {
    const char *const *names; /* NULL-terminated; not owned */
    char *values[QUERY_MAX];  /* as many; NULL: not given. Owned */
    unsigned
        lists; /* a sum of 1 << i: may be given more than once, which is the same as once with commas between */
    Fields complaints; /* unknown, given twice, not decodable, and what the caller adds */
} Query;

void query_done(Query *q);

/* names and lists as above. Complaints are collected, not answered. */
void query_read(Query *q, const HttpRequest *r, const char *const names[], unsigned lists);

/* A whole number from min to max; fallback when the parameter was not given or is complained about. */
uint64_t query_number(Query *q, size_t i, uint64_t min, uint64_t max, uint64_t fallback);

/* r is answered, 422, if there is a complaint (or no memory, 503). */
bool query_refused(const Query *q, HttpRequest *r);
