/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <sysexits.h>

#include "base/config.h"
#include "base/log.h"
#include "cli/cli.h"
#include "static-libraries.h"
#include "store/schema.h"

enum { OPTION_ALL, _OPTION_MAX };

static const Option options[] = {
    [OPTION_ALL] = { "all", NULL, "name every library linked in, with its version" },
    {},
};

static int version_run(int argc, char *argv[]) {
    _cleanup_(config_done) Config config = {};
    const char *values[_OPTION_MAX];
    char **args;

    int r = config_load_with(&config, "", options, values, argc, argv, &args);
    if (r < 0)
        return config_exit_status(r);
    if (*args) {
        log_error("\"pgmill version\" takes no argument \"%s\"", *args);
        return EX_USAGE;
    }
    printf("pgmill " PGMILL_VERSION " (schema %u, %s)\n", schema_version(),
        PGMILL_STATIC ? "static" : "dynamic");
    if (values[OPTION_ALL])
        printf("%s:\n%s\n",
            PGMILL_STATIC ? "Linked in, with Debian's version and source package"
                          : "Built with, while the host's shared libraries are what runs",
            PGMILL_LIBRARIES);
    return EX_OK;
}

const Verb version_verb = {
    .name = "version",
    .run = version_run,
    .arguments = "[OPTION…]",
    .summary = "Print the version",
    .section = NULL,
    .options = options,
};
