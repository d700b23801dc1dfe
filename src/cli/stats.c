/* SPDX-License-Identifier: MIT */
#include "cli/cli.h"
#include "cli/table.h"

static int run(int argc, char *argv[]) {
    return table_run(&(const View){ ADMIN_STATS, "read the figures", NULL, NULL }, argc, argv);
}

const Verb stats_verb = {
    .name = "stats",
    .run = run,
    .arguments = "[OPTION…]",
    .summary = "Print the figures of the whole",
    .section = "",
    .options = table_options,
};
