/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <sysexits.h>

#include "base/log.h"
#include "cli/cli.h"
#include "cli/way.h"
#include "store/task.h"

static int show_by_api(Way *way, Id id) {
    _cleanup_(buf_done) Buf path = {}, answer = {};

    buf_printf(&path, "/api/tasks/%s", ID_TEXT(id));
    if (buf_error(&path) < 0)
        return EX_OSERR;
    int status = way_ask(way, "show the task", "GET", path.data, NULL, NULL, &answer);
    if (status == EX_OK)
        (void) fputs(answer.data, stdout);
    return status;
}

static int show_run(int argc, char *argv[]) {
    _cleanup_(config_done) Config config = {};
    _cleanup_(db_rows_freep) DbRows *rows = NULL;
    _cleanup_(way_done) Way way = {};
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
    int status = way_find(&way, &config);
    if (status != EX_OK)
        return status;
    if (!way.db)
        return show_by_api(&way, id);
    r = task_read(way.db, id, &rows, &error);
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
