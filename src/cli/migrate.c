/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <sysexits.h>

#include "base/log.h"
#include "cli/cli.h"
#include "store/schema.h"

static bool changed;

static void on_step(const char *step) {
    changed = true;
    printf("applied %s\n", step);
    (void) fflush(stdout);
}

static void on_waiting(const char *who) {
    log_notice("Waiting for a lock that is held by %s", who);
}

static int migrate_run(int argc, char *argv[]) {
    _cleanup_(config_done) Config config = {};
    _cleanup_(db_freep) Db *db = NULL;
    char **args, *error = NULL;

    int r = config_load(&config, "", argc, argv, &args);
    if (r < 0)
        return config_exit_status(r);
    if (args[0]) {
        log_error("\"pgmill migrate\" takes no argument");
        return EX_USAGE;
    }
    int status = cli_connect(&config, &db);
    if (status != EX_OK)
        return status;
    r = schema_migrate(db, &(const SchemaEvents){ .applied = on_step, .waiting = on_waiting }, &error);
    if (r < 0)
        return cli_failed("migrate", r, error);
    printf("schema %u %s\n", schema_version(), changed ? "is ready" : "was ready already");
    return EX_OK;
}

const Verb migrate_verb = {
    .name = "migrate",
    .run = migrate_run,
    .arguments = "[OPTION…]",
    .summary = "Create the database schema, or bring it up to date",
    .help = "Each migration is one transaction; run at the same time on many hosts it is done once.\n",
    .section = "",
};
