/* SPDX-License-Identifier: MIT */
/* Files of tokens, and what stands in Authorization: what was read is written in one spelling and read back the same;
 * who is let in has shown a token whose digest is in the file. */
#include "api/token.h"

#include "fuzz.h"

#define HASH_OF_SEED "ae6fa8d89f182d2e7033b00e508c8801348c21355b7f41a2ecd4c0f0271201c8"

static void write_token(Buf *b, const Token *t) {
    static const Scope scopes[] = { SCOPE_SUBMIT, SCOPE_READ, SCOPE_OPERATE, SCOPE_ADMIN };
    const char *comma = "";
    char hex[DIGEST_HEX_SIZE];

    must(token_name_valid(t->name));
    must(t->scopes != 0);
    must(
        !(t->scopes & SCOPE_ADMIN) || t->scopes == (SCOPE_SUBMIT | SCOPE_READ | SCOPE_OPERATE | SCOPE_ADMIN));
    buf_printf(b, "%s ", digest_hex(&t->hash, hex));
    for (size_t i = 0; i < ELEMENTS(scopes); i++)
        if (t->scopes & scopes[i]) {
            buf_printf(b, "%s%s", comma, scope_name(scopes[i]));
            comma = ",";
        }
    buf_printf(b, " %s\n", t->name);
}

static void check_file(const char *text, size_t len) {
    _cleanup_(tokens_done) Tokens t = {}, back = {};
    _cleanup_(buf_done) Buf written = {};
    const char *why = NULL;
    unsigned line = 0;
    int r = tokens_parse(text, len, &t, &line, &why);

    must(r == 0 || r == -EBADMSG);
    if (r < 0) {
        must(line >= 1 && why && *why && t.count == 0);
        return;
    }
    buf_puts(&written, "# the same\n");
    for (size_t i = 0; i < t.count; i++)
        write_token(&written, &t.list[i]);
    must(tokens_parse(written.data, written.len, &back, &line, &why) == 0);
    must(back.count == t.count);
    for (size_t i = 0; i < t.count; i++) {
        must(digest_equal(&back.list[i].hash, &t.list[i].hash));
        must(back.list[i].scopes == t.list[i].scopes && streq(back.list[i].name, t.list[i].name));
    }
}

static void check_authorization(const char *shown) {
    _cleanup_(tokens_done) Tokens all = {};
    static Token one = { .scopes = SCOPE_READ, .name = "one" };
    Tokens t = { .list = &one, .count = 1 };

    must(!tokens_find(&all, shown));
    must(digest_parse(HASH_OF_SEED, &one.hash) == 0);
    const Token *found = tokens_find(&t, shown);
    const char *text = strstr(shown, TOKEN_PREFIX);
    Digest hash;
    if (found)
        must(text && digest_of(text, TOKEN_TEXT_SIZE - 1, &hash) == 0 && digest_equal(&hash, &one.hash));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    _cleanup_(freep) char *s = fuzz_string(data, size);
    const char *why;
    unsigned scopes;

    if (size > 0)
        check_file((const char *) data, size);
    check_authorization(s);
    must(scopes_parse(s, strlen(s), &scopes, &why) == 0 || *why);
    return 0;
}
