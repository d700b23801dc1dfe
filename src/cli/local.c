/* SPDX-License-Identifier: MIT */
/*
 * Asks the workers of this host, by their control sockets, and not the database. One that does not run is not asked,
 * since that would start it; unless it is named.
 */
#include "base/local.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sysexits.h>

#include "base/json.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/table.h"
#include "store/task.h"

#define ANSWER_SEC 30
#define ANSWER_MAX ((size_t) 16 * 1024 * 1024)

enum { OPTION_JSON, OPTION_LOG, OPTION_WAKE, _OPTION_MAX };

static const Option options[] = {
    [OPTION_JSON] = { "json", NULL, "as JSON, with the tasks that run" },
    [OPTION_LOG] = { "log", NULL, "print the log of NAME's tasks as it comes, as lines of JSON" },
    [OPTION_WAKE] = { "wake", NULL, "let NAME look for tasks now" },
    {},
};

static const Column columns[] = {
    { "name", "worker" },
    { "state", NULL },
    { "pid", NULL },
    { "busy", NULL },
    { "slots", NULL },
    { "queues", NULL },
    { "resting", NULL },
    { "database", NULL },
    {},
};

static int ask_failed(const char *name, int r) {
    const char *what = r == -EACCES                         ? "root and members of the group pgmill may ask"
                       : r == -ENOENT || r == -ECONNREFUSED ? "systemctl start pgmill-worker@NAME.socket"
                       : r == -EAGAIN                       ? "it does not answer"
                                                            : strerror(-r);

    log_error("Cannot ask worker %s by " LOCAL_FOLDER "/%s.sock: %s", name, name, what);
    return r == -EACCES ? EX_NOPERM : EX_UNAVAILABLE;
}

/* A blocking socket on which a word was said. */
static int say(const char *name, const char *word, int *ret_fd) {
    const struct timeval patience = { .tv_sec = ANSWER_SEC };
    _cleanup_(closep) int fd = -EBADF;

    int r = local_connect(name, &fd);
    if (r < 0)
        return r;
    if (fcntl(fd, F_SETFL, 0) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0 ||
        send(fd, word, strlen(word), MSG_NOSIGNAL) < 0 || send(fd, "\n", 1, MSG_NOSIGNAL) < 0)
        return -errno;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

/* The answer: one line, without its end. */
static int ask(const char *name, const char *word, Buf *ret) {
    _cleanup_(closep) int fd = -EBADF;

    int r = say(name, word, &fd);
    while (r >= 0) {
        char *room = buf_reserve(ret, BUFSIZ);
        ssize_t n = room ? recv(fd, room, BUFSIZ, 0) : -1;
        if (!room)
            return -ENOMEM;
        if (n <= 0)
            return n < 0 ? -errno : -ECONNRESET;
        buf_grew(ret, (size_t) n);
        if (ret->data[ret->len - 1] == '\n')
            break;
        if (ret->len > ANSWER_MAX)
            return -EMSGSIZE;
    }
    if (r >= 0)
        ret->data[--ret->len] = '\0';
    return r;
}

/* ---- all of them ---- */

typedef struct List {
    Buf text; /* {"workers": [ … */
    int status;
} List;

static int add(const char *name, void *userdata) {
    _cleanup_(buf_done) Buf answer = {};
    List *l = userdata;

    if (!task_label_valid(name))
        return 0; /* no worker's: its socket was there before anybody looked at the name */
    if (!local_holds(name))
        buf_printf(&answer, "{\"name\": \"%s\", \"state\": \"stopped\"}", name);
    else {
        int r = ask(name, "status", &answer);
        if (r < 0) {
            l->status = ask_failed(name, r);
            return 0; /* the others may answer */
        }
    }
    if (json_check(answer.data, answer.len, NULL, NULL, NULL) < 0)
        return -EBADMSG;
    buf_printf(&l->text, "%s%s", l->text.data[l->text.len - 1] == '[' ? "" : ", ", answer.data);
    return buf_error(&l->text);
}

static int list_all(bool json) {
    List l = {};

    buf_puts(&l.text, "{\"workers\": [");
    int r = buf_error(&l.text);
    if (r >= 0)
        r = local_workers(add, &l);
    buf_puts(&l.text, "]}");
    if (r >= 0)
        r = buf_error(&l.text);
    if (r < 0) {
        (void) log_error_errno(r, "Cannot ask the workers of this host: %m");
        l.status = EX_OSERR;
    } else {
        int status = table_print(l.text.data, "workers", columns, json);
        l.status = status != EX_OK ? status : l.status;
    }
    buf_done(&l.text);
    return l.status;
}

/* ---- one ---- */

static int follow(const char *name) {
    static const struct timeval forever = {};
    _cleanup_(closep) int fd = -EBADF;
    char data[BUFSIZ];
    ssize_t n = 0;

    int r = say(name, "log", &fd);
    if (r >= 0 && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &forever, sizeof(forever)) < 0)
        r = -errno;
    while (r >= 0 && (n = recv(fd, data, sizeof(data), 0)) > 0)
        if (fwrite(data, 1, (size_t) n, stdout) < (size_t) n || fflush(stdout) != 0)
            return EX_IOERR;
    if (r < 0 || n < 0)
        return ask_failed(name, r < 0 ? r : -errno);
    log_notice("Worker %s has ended", name);
    return EX_OK;
}

static int ask_one(const char *name, const char *word, bool json) {
    _cleanup_(buf_done) Buf answer = {}, text = {};

    int r = ask(name, word, &answer);
    if (r < 0)
        return ask_failed(name, r);
    if (streq(word, "wake"))
        return EX_OK;
    buf_printf(&text, "{\"workers\": [%s]}", answer.data);
    return buf_error(&text) < 0 ? EX_OSERR : table_print(text.data, "workers", columns, json);
}

static int run(int argc, char *argv[]) {
    _cleanup_(config_done) Config config = {};
    const char *values[_OPTION_MAX];
    char **args;

    int r = config_load_with(&config, NULL, options, values, argc, argv, &args);
    if (r < 0)
        return config_exit_status(r);
    const char *name = args[0], *word = values[OPTION_WAKE] ? "wake" : "status";
    if (name && (args[1] || !task_label_valid(name))) {
        log_error("\"pgmill local\" takes one argument at most, the name of a worker");
        return EX_USAGE;
    }
    if (!name && (values[OPTION_LOG] || values[OPTION_WAKE])) {
        log_error("--log and --wake need the name of a worker");
        return EX_USAGE;
    }
    if (!name)
        return list_all(values[OPTION_JSON]);
    return values[OPTION_LOG] ? follow(name) : ask_one(name, word, values[OPTION_JSON]);
}

const Verb local_verb = {
    .name = "local",
    .run = run,
    .arguments = "[OPTION…] [NAME]",
    .summary = "Ask the workers of this host what they do",
    .help = "By the sockets that pgmill-worker@NAME.socket has in " LOCAL_FOLDER
            ". Naming a worker that does not\nrun starts it.\n",
    .section = NULL,
    .options = options,
};
