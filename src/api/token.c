/* SPDX-License-Identifier: MIT */
#include "api/token.h"

#include <fcntl.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/log.h"

static const struct {
    const char *name;
    Scope scope;
} scopes[] = {
    { "submit", SCOPE_SUBMIT },
    { "read", SCOPE_READ },
    { "operate", SCOPE_OPERATE },
    { "admin", SCOPE_ADMIN },
};

#define SCOPE_ALL (SCOPE_SUBMIT | SCOPE_READ | SCOPE_OPERATE | SCOPE_ADMIN)

static const char blanks[] = " \t";
static const char name_characters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";

void tokens_done(Tokens *t) {
    free(t->list);
    *t = (Tokens){};
}

/* ---- one line ---- */

const char *scope_name(Scope scope) {
    for (size_t i = 0; i < ELEMENTS(scopes); i++)
        if (scopes[i].scope == scope)
            return scopes[i].name;
    return "none";
}

static unsigned scope_parse(const char *text, size_t len) {
    for (size_t i = 0; i < ELEMENTS(scopes); i++)
        if (strlen(scopes[i].name) == len && memcmp(scopes[i].name, text, len) == 0)
            return scopes[i].scope;
    return 0;
}

int scopes_parse(const char *text, size_t len, unsigned *ret, const char **ret_why) {
    unsigned sum = 0;

    for (size_t start = 0; start <= len;) {
        const char *comma = memchr(text + start, ',', len - start);
        size_t n = comma ? (size_t) (comma - text) - start : len - start;
        unsigned scope = scope_parse(text + start, n);
        if (scope == 0) {
            *ret_why = "the scopes must be some of submit, read, operate, admin, separated by commas";
            return -EINVAL;
        }
        sum |= scope == SCOPE_ADMIN ? SCOPE_ALL : scope;
        start += n + 1;
    }
    *ret = sum;
    return 0;
}

bool token_name_valid(const char *name) {
    size_t n = strlen(name);

    return n > 0 && n <= TOKEN_NAME_MAX && strspn(name, name_characters) == n;
}

/* The next word of the line that ends at end; its length, 0 if there is none. */
static size_t next_word(const char **p, const char *end) {
    while (*p < end && strchr(blanks, **p))
        (*p)++;
    const char *word = *p;
    while (word < end && !strchr(blanks, *word))
        word++;
    return (size_t) (word - *p);
}

/* 0: *ret is a token; 1: there is none in this line; -EBADMSG. */
static int parse_line(const char *p, const char *end, Token *ret, const char **ret_why) {
    Token token = {};
    size_t n = next_word(&p, end);

    if (n == 0 || *p == '#')
        return 1;
    *ret_why = "it must begin with the SHA-256 of a token, 64 hexadecimal digits";
    if (n != DIGEST_HEX_SIZE - 1 || digest_parse(p, &token.hash) < 0)
        return -EBADMSG;
    p += n;
    n = next_word(&p, end);
    if (scopes_parse(p, n, &token.scopes, ret_why) < 0)
        return -EBADMSG;
    p += n;
    n = next_word(&p, end);
    *ret_why = "behind the scopes must stand a name of at most 100 letters, digits, '_', '.' and '-'";
    if (n == 0 || n > TOKEN_NAME_MAX)
        return -EBADMSG;
    memcpy(token.name, p, n);
    if (!token_name_valid(token.name))
        return -EBADMSG;
    p += n;
    *ret_why = "nothing may stand behind the name";
    if (next_word(&p, end) > 0)
        return -EBADMSG;
    *ret = token;
    return 0;
}

/* ---- the file ---- */

static bool known(const Tokens *t, const Digest *hash) {
    for (size_t i = 0; i < t->count; i++)
        if (digest_equal(&t->list[i].hash, hash))
            return true;
    return false;
}

static int add(Tokens *t, const Token *token, const char **ret_why) {
    if (known(t, &token->hash)) {
        *ret_why = "this token is in the file already";
        return -EBADMSG;
    }
    Token *list = reallocarray(t->list, t->count + 1, sizeof(Token));
    if (!list)
        return -ENOMEM;
    list[t->count++] = *token;
    t->list = list;
    return 0;
}

int tokens_parse(const char *text, size_t len, Tokens *ret, unsigned *ret_line, const char **ret_why) {
    const char *p = text, *end = text + len;
    _cleanup_(tokens_done) Tokens t = {};

    for (*ret_line = 1; p < end; (*ret_line)++) {
        const char *newline = memchr(p, '\n', (size_t) (end - p)), *stop = newline ? newline : end;
        Token token;
        int r = -EBADMSG;

        *ret_why = "it holds a NUL byte";
        if (!memchr(p, '\0', (size_t) (stop - p)))
            r = parse_line(p, stop, &token, ret_why);
        if (r == 0)
            r = add(&t, &token, ret_why);
        if (r < 0)
            return r;
        p = newline ? newline + 1 : end;
    }
    tokens_done(ret);
    *ret = t;
    t = (Tokens){};
    return 0;
}

static int check_file(const char *path, int fd) {
    struct stat st;

    if (fstat(fd, &st) < 0)
        return log_error_errno(-errno, "%s: %m", path);
    if (!S_ISREG(st.st_mode)) {
        log_error("%s: it is no regular file", path);
        return -EINVAL;
    }
    if ((st.st_mode & 0037) != 0) {
        log_error("%s: its mode is %04o, and only its owner may change it and only its group read it: "
                  "chmod 0640 %s",
            path, st.st_mode & 07777U, path);
        return -EACCES;
    }
    return 0;
}

int tokens_load(const char *path, Tokens *ret) {
    _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    _cleanup_(buf_done) Buf text = {};
    const char *why = "";
    unsigned line;

    int r = fd < 0 ? log_error_errno(-errno, "%s: %m", path) : check_file(path, fd);
    if (r < 0)
        return r;
    r = buf_read(&text, fd, TOKENS_FILE_MAX);
    if (r < 0)
        return log_error_errno(r, "%s: %m", path);
    r = tokens_parse(text.data, text.len, ret, &line, &why);
    if (r == -EBADMSG)
        log_error("%s:%u: %s", path, line, why);
    else if (r < 0)
        return log_error_errno(r, "%s: %m", path);
    return r;
}

/* ---- what a client shows ---- */

/* RFC 6750, section 2.1; the scheme in any case (RFC 9110, section 11.1). Its TOKEN_TEXT_SIZE - 1 characters, or NULL:
 * what a token of ours cannot be is not looked up, and that its length is wrong is no secret. */
static const char *bearer(const char *authorization) {
    static const char scheme[] = "Bearer ";
    size_t n = sizeof(scheme) - 1;

    if (!authorization || strncasecmp(authorization, scheme, n) != 0)
        return NULL;
    authorization += n;
    authorization += strspn(authorization, " ");
    n = strcspn(authorization, blanks);
    if (n != TOKEN_TEXT_SIZE - 1 || authorization[n + strspn(authorization + n, blanks)] != '\0')
        return NULL;
    return authorization;
}

const Token *tokens_find(const Tokens *t, const char *authorization) {
    const char *text = bearer(authorization);
    const Token *found = NULL;
    Digest hash;

    if (!text || digest_of(text, TOKEN_TEXT_SIZE - 1, &hash) < 0)
        return NULL;
    for (size_t i = 0; i < t->count; i++)
        if (digest_equal(&t->list[i].hash, &hash))
            found = &t->list[i];
    return found;
}

/* ---- new ones ---- */

int token_new(char ret[static TOKEN_TEXT_SIZE]) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint8_t bits[DIGEST_SIZE + 1] = {}; /* and a byte of nothing, since 43 digits are 258 bits */
    char *p = ret + sizeof(TOKEN_PREFIX) - 1;

    int r = digest_random(bits, DIGEST_SIZE);
    if (r < 0)
        return r;
    memcpy(ret, TOKEN_PREFIX, sizeof(TOKEN_PREFIX) - 1);
    for (size_t bit = 0; bit < 8 * DIGEST_SIZE; bit += 6) {
        unsigned pair = (unsigned) bits[bit / 8] << 8 | bits[bit / 8 + 1];
        *p++ = digits[pair >> (10 - bit % 8) & 63];
    }
    *p = '\0';
    return 0;
}
