/* SPDX-License-Identifier: MIT */
#include <sysexits.h>

#include "base/log.h"
#include "cli/cli.h"
#include "store/task.h"

static int show_run(int argc, char *argv[]) {
    _cleanup_(config_done) Config config = {};
    _cleanup_(db_rows_freep) DbRows *rows = NULL;
    _cleanup_(db_freep) Db *db = NULL;
    char **args, *error = NULL;
    Id id;

    int r = config_load(&config, "", argc, argv, &args);
    if (r < 0)
        return config_exit_status(r);
    if (!args[0] || args[1]) {
        log_error("\"pgmill show\" takes one argument, the id of a task");
        return EX_USAGE;
    }
    if (id_parse(args[0], &id) < 0) {
        log_error("\"%s\" is not the id of a task", args[0]);
        return EX_USAGE;
    }
    int status = cli_connect(&config, &db);
    if (status != EX_OK)
        return status;
    r = task_read(db, id, &rows, &error);
    if (r < 0)
        return cli_failed("read the task", r, error);
    if (db_rows(rows) == 0) {
        log_error("There is no task %s", args[0]);
        return EX_NOINPUT;
    }
    return cli_print_task(rows, 0, 0);
}

const Verb show_verb = {
    .name = "show",
    .run = show_run,
    .arguments = "[OPTION…] ID",
    .summary = "Show a task as JSON",
    .section = "",
};
