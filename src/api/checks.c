/* SPDX-License-Identifier: MIT */
#include "api/checks.h"

#include "api/listen.h"
#include "api/token.h"

/* Of the addresses that the configuration names; a socket unit's are its own business, and the service looks at them. */
static CheckResult addresses_look(_unused_ const Check *self, const CheckContext *c, Buf *found) {
    bool tokens = *c->config->tokens, beyond = false;

    for (char **p = c->config->listen; *p; p++) {
        int r = listen_is_beyond(*p);
        if (r < 0) {
            buf_clear(found);
            buf_printf(found,
                "\"%s\" is no address; it must be like 127.0.0.1:8000, [::1]:8000 or /path/to/socket", *p);
            return CHECK_PROBLEM;
        }
        if (r > 0 && !beyond)
            buf_printf(found, "other machines can reach %s", *p);
        beyond = beyond || r > 0;
    }
    if (!beyond)
        buf_puts(found, "this host's own only");
    else
        buf_puts(
            found, tokens ? ", with an access token" : ", and Tokens= names no file: the API will not start");
    return beyond && !tokens ? CHECK_PROBLEM : CHECK_OK;
}

static CheckResult tokens_look(_unused_ const Check *self, const CheckContext *c, Buf *found) {
    _cleanup_(tokens_done) Tokens tokens = {};
    const char *path = c->config->tokens;

    if (!*path) {
        buf_puts(found, "none asked for");
        return CHECK_OK;
    }
    if (access(path, R_OK) < 0) {
        buf_printf(found, "%s: %s", path, strerror(errno));
        return errno == EACCES && !c->as_services ? CHECK_UNSEEN : CHECK_PROBLEM;
    }
    if (tokens_load(path, &tokens) < 0) {
        buf_printf(found, "%s cannot be used, as it says above", path);
        return CHECK_PROBLEM;
    }
    buf_printf(found, "%zu in %s", tokens.count, path);
    return tokens.count == 0 ? CHECK_WARNING : CHECK_OK;
}

const Check api_checks[] = {
    {
        .name = "addresses",
        .look = addresses_look,
        .configured = true,
        .remedy = "make tokens with \"pgmill token new\" and name their file by Tokens= in the section "
                  "[API], or keep "
                  "Listen= to 127.0.0.1, [::1] and Unix sockets",
    },
    {
        .name = "tokens",
        .look = tokens_look,
        .configured = true,
        .remedy = "\"pgmill token new --file\" adds to the file, which is root's, readable for the group "
                  "pgmill (0640)",
    },
    {},
};
