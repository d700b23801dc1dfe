/* SPDX-License-Identifier: MIT */
/*
 * pgmill token: makes tokens. The token itself is shown once and kept nowhere.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sysexits.h>

#include "api/api.h"
#include "api/token.h"
#include "base/config.h"
#include "base/log.h"

enum { OPTION_SCOPE, OPTION_FILE, _OPTION_MAX };

static const Option options[] = {
    [OPTION_SCOPE] = { "scope", "SCOPES", "some of submit, read, operate, admin, separated by commas" },
    [OPTION_FILE] = { "file", "PATH", "add the line to this file, and print the token alone" },
    {},
};

static int make_line(const char *token, const char *scope, const char *name, Buf *ret) {
    char hex[DIGEST_HEX_SIZE];
    Digest hash;

    int r = digest_of(token, strlen(token), &hash);
    if (r < 0)
        return r;
    buf_printf(ret, "%s %s %s\n", digest_hex(&hash, hex), scope, name);
    return buf_error(ret);
}

/* All of it or nothing. */
static int write_whole(int fd, off_t size, const char *text, size_t n) {
    ssize_t written = write(fd, text, n);
    int r = written < 0 ? -errno : written < (ssize_t) n ? -ENOSPC : 0;

    if (r >= 0 && fsync(fd) < 0)
        r = -errno;
    if (r < 0 && ftruncate(fd, size) < 0)
        log_warning("Half a line may stand at the end of the file");
    return r;
}

/* Whoever reads the file meanwhile finds it as it was, or with the whole line. */
static int append(const char *path, const Buf *line) {
    _cleanup_(closep) int fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
    _cleanup_(tokens_done) Tokens tokens = {};
    _cleanup_(buf_done) Buf text = {};
    char last = '\n';
    struct stat st;

    if (fd < 0 || flock(fd, LOCK_EX) < 0)
        return log_error_errno(-errno, "%s: %m", path);
    int r = tokens_load(path, &tokens); /* a line behind a broken one would never be read */
    if (r < 0)
        return r;
    if (fstat(fd, &st) < 0 || (st.st_size > 0 && pread(fd, &last, 1, st.st_size - 1) < 0))
        return log_error_errno(-errno, "%s: %m", path);
    if (last != '\n')
        buf_putc(&text, '\n');
    buf_add(&text, line->data, line->len);
    r = (size_t) st.st_size + text.len > TOKENS_FILE_MAX ? -EFBIG : buf_error(&text);
    if (r >= 0)
        r = write_whole(fd, st.st_size, text.data, text.len);
    if (r < 0)
        return log_error_errno(r, "Cannot write to %s: %m", path);
    if (st.st_size == 0)
        log_notice("%s is new; the service must be able to read it: chgrp pgmill %s", path, path);
    return 0;
}

static int make(const char *scope, const char *name, const char *path) {
    _cleanup_(buf_done) Buf line = {};
    char token[TOKEN_TEXT_SIZE];

    int r = token_new(token);
    if (r >= 0)
        r = make_line(token, scope, name, &line);
    if (r < 0)
        return log_error_errno(r, "Cannot make a token: %m");
    if (path) {
        r = append(path, &line);
        if (r < 0)
            return r;
    }
    printf("%s\n%s", token, path ? "" : line.data);
    return 0;
}

static int run(int argc, char *argv[]) {
    _cleanup_(config_done) Config config = {};
    const char *values[_OPTION_MAX], *why;
    unsigned scopes;
    char **args;

    int r = config_load_with(&config, NULL, options, values, argc, argv, &args);
    if (r < 0)
        return config_exit_status(r);
    if (!args[0] || !streq(args[0], "new") || !args[1] || args[2]) {
        log_error("Use it as: pgmill token new --scope=SCOPES NAME");
        return EX_USAGE;
    }
    if (!token_name_valid(args[1])) {
        log_error(
            "NAME: \"%s\" must be at most %d letters, digits, '_', '.' and '-'", args[1], TOKEN_NAME_MAX);
        return EX_USAGE;
    }
    if (!values[OPTION_SCOPE]) {
        log_error("--scope is missing: %s", options[OPTION_SCOPE].help);
        return EX_USAGE;
    }
    if (scopes_parse(values[OPTION_SCOPE], strlen(values[OPTION_SCOPE]), &scopes, &why) < 0) {
        log_error("--scope: \"%s\": %s", values[OPTION_SCOPE], why);
        return EX_USAGE;
    }
    r = make(values[OPTION_SCOPE], args[1], values[OPTION_FILE]);
    return r >= 0 ? EX_OK : r == -EBADMSG ? EX_CONFIG : EX_IOERR;
}

const Verb token_verb = {
    .name = "token",
    .run = run,
    .arguments = "new --scope=SCOPES [--file=PATH] NAME",
    .summary = "Make an access token for the REST API",
    .help = "Prints the token on the first line, for the client, and on the second one what belongs into the "
            "file\n"
            "of Tokens= in the section [API] of pgmill.conf. With --file that line is added to the file, and "
            "the\n"
            "token is all that is printed. It is kept nowhere: whoever loses it needs a new one.\n\n"
            "A request shows it as \"Authorization: Bearer TOKEN\". What the scopes allow:\n"
            "  submit   submit tasks\n"
            "  read     read tasks, queues, workers, events and metrics\n"
            "  operate  pause, resume, cancel and retry tasks; pause queues; quiet workers\n"
            "  admin    all of these, and configure and delete queues\n"
            "The service reads the file again on systemctl reload pgmill-api. A token is withdrawn by taking "
            "out\n"
            "its line; two lines of one name are how it is replaced without a gap.\n",
    .section = NULL,
    .options = options,
};
