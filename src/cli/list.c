/* SPDX-License-Identifier: MIT */
#include <sysexits.h>

#include "base/log.h"
#include "cli/cli.h"
#include "store/task.h"

enum { OPTION_STATUS, OPTION_QUEUE, OPTION_NAME, OPTION_LIMIT, _OPTION_MAX };

static const Option options[] = {
    [OPTION_STATUS] = { "status", "STATUS", "only tasks of this status" },
    [OPTION_QUEUE] = { "queue", "NAME", "only tasks of this queue" },
    [OPTION_NAME] = { "name", "NAME", "only tasks of this name" },
    [OPTION_LIMIT] = { "limit", "N", "at most so many (default: 20)" },
    {},
};

static int filter_parse(const char *const values[], TaskFilter *ret) {
    uint64_t limit = 20;

    if (values[OPTION_STATUS]) {
        TaskStatus status = task_status_from_string(values[OPTION_STATUS]);
        if (status < 0) {
            log_error(
                "--status: \"%s\" is none of SCHEDULED, AVAILABLE, RUNNING, PAUSED, RETRYABLE, COMPLETED, "
                "CANCELLED, FAILED",
                values[OPTION_STATUS]);
            return -EINVAL;
        }
        ret->status = task_status_to_string(status);
    }
    if (values[OPTION_LIMIT] && (parse_uint(values[OPTION_LIMIT], 10000, &limit) < 0 || limit == 0)) {
        log_error("--limit: \"%s\" is not a number from 1 to 10000", values[OPTION_LIMIT]);
        return -EINVAL;
    }
    ret->queue = values[OPTION_QUEUE];
    ret->name = values[OPTION_NAME];
    ret->limit = (unsigned) limit;
    return 0;
}

static int list_run(int argc, char *argv[]) {
    _cleanup_(config_done) Config config = {};
    _cleanup_(db_rows_freep) DbRows *rows = NULL;
    _cleanup_(db_freep) Db *db = NULL;
    const char *values[_OPTION_MAX];
    char **args, *error = NULL;
    TaskFilter filter = {};

    int r = config_load_with(&config, "", options, values, argc, argv, &args);
    if (r < 0)
        return config_exit_status(r);
    if (args[0]) {
        log_error("\"pgmill list\" takes options only");
        return EX_USAGE;
    }
    if (filter_parse(values, &filter) < 0)
        return EX_USAGE;
    int status = cli_connect(&config, &db);
    if (status != EX_OK)
        return status;
    r = task_list(db, &filter, &rows, &error);
    if (r < 0)
        return cli_failed("list tasks", r, error);
    for (size_t i = 0; i < db_rows(rows) && status == EX_OK; i++)
        status = cli_print_task(rows, i, 0);
    return status;
}

const Verb list_verb = {
    .name = "list",
    .run = list_run,
    .arguments = "[OPTION…]",
    .summary = "List tasks, newest first, one line of JSON each",
    .section = "",
    .options = options,
};
