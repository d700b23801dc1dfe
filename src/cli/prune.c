/* SPDX-License-Identifier: MIT */
/*
 * Retention, as pgmill-prune.timer asks for it: many short transactions, so that nobody waits for it and it may be
 * ended at any time.
 */
#include <inttypes.h>
#include <stdio.h>
#include <sysexits.h>

#include "base/log.h"
#include "cli/cli.h"
#include "store/task.h"

static int prune_run(int argc, char *argv[]) {
    _cleanup_(config_done) Config config = {};
    _cleanup_(db_freep) Db *db = NULL;
    char **args, *error = NULL;
    uint64_t gone;

    int r = config_load(&config, "Prune", argc, argv, &args);
    if (r < 0)
        return config_exit_status(r);
    if (args[0]) {
        log_error("\"pgmill prune\" takes options only");
        return EX_USAGE;
    }
    int status = cli_connect(&config, &db);
    if (status != EX_OK)
        return status;
    r = task_prune(db,
        &(const TaskRetention){ .completed_usec = config.keep_completed_usec,
            .cancelled_usec = config.keep_cancelled_usec,
            .failed_usec = config.keep_failed_usec },
        &gone, &error);
    if (r < 0)
        return cli_failed("prune", r, error);
    printf("forgot %" PRIu64 " task%s\n", gone, PLURAL(gone));
    return EX_OK;
}

const Verb prune_verb = {
    .name = "prune",
    .run = prune_run,
    .arguments = "[OPTION…]",
    .summary = "Forget tasks that ended long ago",
    .help = "What ended within the last hour stays in any case. pgmill-prune.timer runs this every hour.\n",
    .section = "Prune",
};
