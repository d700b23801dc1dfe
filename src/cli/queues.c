/* SPDX-License-Identifier: MIT */
#include "cli/cli.h"
#include "cli/table.h"

static const Column columns[] = {
    { "name", "queue" },
    { "available", NULL },
    { "running", NULL },
    { "scheduled", NULL },
    { "retryable", NULL },
    { "paused_tasks", "paused" },
    { "failed", NULL },
    { "max_running", "limit" },
    { "paused", "stopped" },
    { "workers", NULL },
    {},
};

static int run(int argc, char *argv[]) {
    return table_run(&(const View){ ADMIN_QUEUES, "list queues", "queues", columns }, argc, argv);
}

const Verb queues_verb = {
    .name = "queues",
    .run = run,
    .arguments = "[OPTION…]",
    .summary = "List the queues: what waits, what runs, who serves them",
    .section = "",
    .options = table_options,
};
