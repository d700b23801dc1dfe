/* SPDX-License-Identifier: MIT */
/*
 * "pgmill handlers": what a worker on this host would run, and what is wrong with its files.
 */
#include <stdio.h>
#include <sysexits.h>

#include "base/config.h"
#include "base/json.h"
#include "base/log.h"
#include "base/time.h"
#include "worker/handler.h"
#include "worker/worker.h"

enum { OPTION_JSON, _OPTION_MAX };

static const Option options[] = {
    [OPTION_JSON] = { "json", NULL, "one line of JSON each" },
    {},
};

static void put_string(Buf *b, const char *s) {
    s ? json_write_string(b, s, strlen(s)) : buf_puts(b, "null");
}

static void put_seconds(Buf *b, uint64_t usec) {
    usec == UINT64_MAX ? buf_puts(b, "null") : buf_printf(b, "%.15g", (double) usec / 1e6);
}

static void put_count(Buf *b, uint64_t n) {
    n == UINT64_MAX ? buf_puts(b, "null") : buf_printf(b, "%ju", (uintmax_t) n);
}

static void put_json(Buf *b, const Handler *h) {
    buf_puts(b, "{\"name\": ");
    put_string(b, h->name);
    buf_puts(b, ", \"mode\": ");
    put_string(b, h->executor->name);
    buf_puts(b, ", \"exec\": ");
    buf_puts(b, h->argv ? "[" : "null");
    for (char **arg = h->argv; arg && *arg; arg++) {
        buf_puts(b, arg == h->argv ? "" : ", ");
        put_string(b, *arg);
    }
    buf_puts(b, h->argv ? "], \"sql\": " : ", \"sql\": ");
    put_string(b, h->sql);
    buf_puts(b, ", \"timeout\": ");
    put_seconds(b, h->timeout_usec);
    buf_puts(b, ", \"concurrency\": ");
    put_count(b, h->concurrency);
    buf_printf(b, ", \"read_ahead\": %ju, \"max_attempts\": %d, \"file\": ", (uintmax_t) h->read_ahead,
        h->max_attempts);
    put_string(b, h->path);
    buf_puts(b, "}\n");
}

static void put_line(Buf *b, const Handler *h) {
    char timeout[TIME_SPAN_SIZE];

    buf_printf(b, "%-24s %-8s %8s %8d  %s ", h->name, h->executor->name,
        time_format_span(h->timeout_usec, timeout), h->max_attempts, h->path);
    for (char **arg = h->argv; arg && *arg; arg++)
        buf_printf(b, " %s", *arg);
    if (h->sql)
        buf_printf(b, " %s", h->sql);
    buf_putc(b, '\n');
}

static int print(const Handlers *h, bool json) {
    _cleanup_(buf_done) Buf b = {};

    if (!json)
        buf_printf(
            &b, "%-24s %-8s %8s %8s  %s\n", "NAME", "MODE", "TIMEOUT", "ATTEMPTS", "FILE  EXEC or SQL");
    for (size_t i = 0; i < h->n; i++)
        json ? put_json(&b, h->list[i]) : put_line(&b, h->list[i]);
    if (buf_error(&b) < 0)
        return -ENOMEM;
    printf("%s", b.data ? b.data : "");
    return 0;
}

/* Of what only shows when a task runs. */
static bool programs_check(const Handlers *h) {
    bool good = true;

    for (size_t i = 0; i < h->n; i++)
        if (h->list[i]->argv && access(h->list[i]->argv[0], X_OK) < 0) {
            (void) log_error_errno(-errno, "%s: cannot run %s: %m", h->list[i]->path, h->list[i]->argv[0]);
            good = false;
        }
    return good;
}

static int handlers_run(int argc, char *argv[]) {
    _cleanup_(config_done) Config config = {};
    _cleanup_(handlers_done) Handlers handlers = {};
    const char *values[_OPTION_MAX];
    char **args;

    int r = config_load_with(&config, "Worker", options, values, argc, argv, &args);
    if (r < 0)
        return config_exit_status(r);
    if (args[0]) {
        log_error("\"pgmill handlers\" takes options only");
        return EX_USAGE;
    }
    r = handlers_load(config.tasks, &handlers);
    if (r >= 0)
        r = print(&handlers, values[OPTION_JSON] != NULL);
    if (r < 0) {
        (void) log_error_errno(r, "Cannot list the handlers: %m");
        return EX_OSERR;
    }
    return programs_check(&handlers) && handlers.unusable == 0 ? EX_OK : EX_CONFIG;
}

const Verb handlers_verb = {
    .name = "handlers",
    .run = handlers_run,
    .arguments = "[OPTION…]",
    .summary = "List what a worker on this host can run, and check its handler files",
    .help = "Complaints go to standard error with file and line; the exit status is 78 when a file cannot be "
            "used.\n",
    .section = "Worker",
    .options = options,
};
