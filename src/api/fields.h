/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What is wrong with the fields of a request, collected so that one answer tells all of it.
 */
#include <cjson/cJSON.h>

#include "base/util.h"

#define FIELDS_MAX 20 /* complaints in one answer; what comes after is only counted */

typedef struct Fields {
    cJSON *
        list; /* [{"field": "tags/3", "detail": "must be a string, not a number"}, …], the member "errors" of a
                   * problem (RFC 9457, section 3.2); NULL while there is none */
    const char *prefix; /* stands before every field: "tasks/3/"; NULL: nothing. Not owned */
    size_t count;       /* complaints, those not in the list too */
    bool failed;        /* no memory */
} Fields;

void fields_done(Fields *f);

/* field: a JSON pointer without its leading slash, "" for the whole body. Bytes that are no UTF-8 become '?'. */
void fields_add(Fields *f, const char *field, const char *format, ...) _printf_(3, 4);

/* A client's text, fit to be quoted back: at most about 60 bytes, always UTF-8. Returns buf. */
#define FIELDS_QUOTE_SIZE 72
const char *fields_quote(const char *text, char buf[static FIELDS_QUOTE_SIZE]);
#define FIELDS_QUOTE(text) fields_quote((text), (char[FIELDS_QUOTE_SIZE]){})
