/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Access tokens: what a client shows, and the file of those that are accepted. The file holds their SHA-256 only, so
 * that reading it helps nobody in. Knows nothing of HTTP but the value of one header.
 *
 * The file: one token a line, "HASH SCOPE[,SCOPE…] NAME", separated by blanks; empty lines and '#' comments. HASH is
 * 64 hexadecimal digits. A name may stand in several lines: that is how a token is replaced without a gap.
 */
#include "base/digest.h"

/* What a request may do. A set of them is their sum. */
typedef enum Scope {
    SCOPE_OPEN = 0, /* of a route: needs no token */
    SCOPE_SUBMIT = 1,
    SCOPE_READ = 2,
    SCOPE_OPERATE = 4,
    SCOPE_ADMIN = 8, /* as a token's scope: all of them */
} Scope;

#define TOKEN_PREFIX    "pgmill_"
#define TOKEN_TEXT_SIZE 51 /* "pgmill_", base64url of 256 random bits (RFC 4648, section 5; unpadded), NUL */
#define TOKEN_NAME_MAX  100
#define TOKENS_FILE_MAX (64U * 1024)

typedef struct Token {
    Digest hash;
    unsigned scopes;
    char name[TOKEN_NAME_MAX + 1]; /* letters, digits, '_', '.', '-' */
} Token;

typedef struct Tokens {
    Token *list;
    size_t count;
} Tokens;

void tokens_done(Tokens *t);

/* "submit", "read", "operate", "admin"; "none" for SCOPE_OPEN. */
const char *scope_name(Scope scope);

/* "read,submit" → their sum. -EINVAL: *ret_why says what is wrong, a static text. */
int scopes_parse(const char *text, size_t len, unsigned *ret, const char **ret_why);

bool token_name_valid(const char *name);

/*
 * The whole content of a file. -EBADMSG: *ret_line and *ret_why (static) say where and what; -ENOMEM. *ret is then as
 * it was.
 */
int tokens_parse(const char *text, size_t len, Tokens *ret, unsigned *ret_line, const char **ret_why);

/* Reads the file. Errors, each logged with file and line: errno of opening and reading; -EACCES others may read or
 * its group may change it; -EFBIG; and those of tokens_parse(). *ret is then as it was. */
int tokens_load(const char *path, Tokens *ret);

/* The token that the value of an Authorization header shows; NULL. Takes the same time for each that is not known. */
const Token *tokens_find(const Tokens *t, const char *authorization);

/* Makes up a token. */
int token_new(char ret[static TOKEN_TEXT_SIZE]);
