/* SPDX-License-Identifier: MIT */
/*
 * The verb table: joins what the roles export. A new verb is one row.
 */
#include <nss.h>
#include <stdio.h>
#include <sysexits.h>

#include "api/api.h"
#include "base/log.h"
#include "cli/cli.h"
#include "main/doctor.h"
#include "main/setup.h"
#include "worker/worker.h"

static const Verb *const verbs[] = {
    &api_verb,
    &openapi_verb,
    &worker_verb,
    &handlers_verb,
    &setup_verb,
    &doctor_verb,
    &token_verb,
    &migrate_verb,
    &prune_verb,
    &submit_verb,
    &show_verb,
    &list_verb,
    &pause_verb,
    &resume_verb,
    &cancel_verb,
    &retry_verb,
    &queues_verb,
    &workers_verb,
    &local_verb,
    &stats_verb,
    &version_verb,
};

static int help(void) {
    printf("pgmill VERB [OPTION…] [ARGUMENT…]\n\n"
           "A task queue for Linux machines with systemd and PostgreSQL.\n\nVerbs:\n");
    for (size_t i = 0; i < ELEMENTS(verbs); i++)
        printf("  %-10s %s\n", verbs[i]->name, verbs[i]->summary);
    printf("\n\"pgmill VERB --help\" tells more of each.\n");
    return EX_OK;
}

/* A static executable must not load the host's name service modules: they belong to another C library. */
static void static_guards(void) {
#if PGMILL_STATIC
    static const char *const files_only[] = { "passwd", "group", "services" };

    (void) __nss_configure_lookup("hosts", "files dns");
    for (size_t i = 0; i < ELEMENTS(files_only); i++)
        (void) __nss_configure_lookup(files_only[i], "files");
#endif
}

int main(int argc, char *argv[]) {
    static_guards();
    log_open("pgmill");
    if (argc < 2) {
        (void) help();
        return EX_USAGE;
    }
    if (streq(argv[1], "--help") || streq(argv[1], "-h") || streq(argv[1], "help"))
        return help();
    if (streq(argv[1], "--version"))
        argv[1] = (char *) version_verb.name;
    for (size_t i = 0; i < ELEMENTS(verbs); i++)
        if (streq(argv[1], verbs[i]->name)) {
            if (verb_is_help(verbs[i], argc - 1, argv + 1)) {
                verb_print_help(verbs[i]);
                return EX_OK;
            }
            int status = verbs[i]->run(argc - 1, argv + 1);
            log_close();
            if (fflush(stdout) != 0 || ferror(stdout)) {
                (void) log_error_errno(-errno, "Cannot write to standard output: %m");
                return status == EX_OK ? EX_IOERR : status;
            }
            return status;
        }
    log_error("Unknown verb \"%s\"; \"pgmill --help\" lists them", argv[1]);
    return EX_USAGE;
}
