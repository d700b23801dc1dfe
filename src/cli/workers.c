/* SPDX-License-Identifier: MIT */
#include "cli/cli.h"
#include "cli/table.h"

static const Column columns[] = {
    { "instance", "worker" },
    { "host", NULL },
    { "pid", NULL },
    { "resting", NULL },
    { "status", NULL },
    { "running", NULL },
    { "queues", NULL },
    { "version", NULL },
    { "last_seen_at", "last seen" },
    { "id", NULL },
    {},
};

static int run(int argc, char *argv[]) {
    return table_run(&(const View){ ADMIN_WORKERS, "list workers", "workers", columns }, argc, argv);
}

const Verb workers_verb = {
    .name = "workers",
    .run = run,
    .arguments = "[OPTION…]",
    .summary = "List the workers of all hosts",
    .section = "",
    .options = table_options,
};
