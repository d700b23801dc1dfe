/* SPDX-License-Identifier: MIT */
#include "api/docs.h"

#include <stdio.h>
#include <sysexits.h>

#include "api/api.h"
#include "api/problem.h"

typedef struct Asset {
    const char *data;
    size_t len;
    const char *tag; /* RFC 9110, section 8.8.3 */
} Asset;

#include "docs-data.h"

/* The page runs one script, its own, and talks to its own origin alone. The script makes style elements as it goes,
 * so that styles cannot be told by where they are from. */
#define PAGE_POLICY                                                                            \
    "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src 'self' data:; " \
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

/* Asked again each time, and answered 304 until there is another version. more: NULL or a further header. */
static void answer(HttpRequest *r, const Asset *asset, const char *type, const HttpHeader *more) {
    const char *known = http_header(r, "If-None-Match");
    const HttpHeader headers[] = {
        { "ETag", asset->tag },
        { "Cache-Control", "no-cache" },
        more ? *more : (HttpHeader){},
        {},
    };

    if (known && (strstr(known, asset->tag) || streq(known, "*")))
        return http_answer(r, 304, NULL, headers, NULL);
    http_answer_static(r, 200, type, headers, asset->data, asset->len);
}

void docs_description(_unused_ Api *api, HttpRequest *r, _unused_ const char *capture) {
    answer(r, &openapi, "application/json", NULL);
}

void docs_page(_unused_ Api *api, HttpRequest *r, _unused_ const char *capture) {
    answer(r, &page, "text/html; charset=utf-8", &(HttpHeader){ "Content-Security-Policy", PAGE_POLICY });
}

/* Kept compressed, and no other way. Every browser takes that, so nobody is asked whether they do. */
void docs_script(_unused_ Api *api, HttpRequest *r, _unused_ const char *capture) {
    if (script.len == 0)
        return problem_answer(r, PROBLEM_NO_SUCH_RESOURCE, "This executable was built without the docs page");
    answer(r, &script, "text/javascript; charset=utf-8", &(HttpHeader){ "Content-Encoding", "gzip" });
}

static int print_description(int argc, char *argv[]) {
    if (argc > 1) {
        (void) fprintf(stderr, "pgmill openapi takes no argument \"%s\"\n", argv[1]);
        return EX_USAGE;
    }
    (void) fwrite(openapi.data, 1, openapi.len, stdout);
    return EX_OK;
}

const Verb openapi_verb = {
    .name = "openapi",
    .run = print_description,
    .arguments = "",
    .summary = "Print the description of the REST API (OpenAPI 3.1)",
    .help = "The same as GET /openapi.json.\n",
    .section = "",
};
