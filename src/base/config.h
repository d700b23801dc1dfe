/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Settings: one table row a key. From low to high: the default, the configuration file (INI), the environment, the
 * command line. What is left at its default may come from a credential, systemd.exec(5).
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/util.h"
#include "base/verb.h"

#define CONFIG_FILE_DEFAULT "/etc/pgmill/pgmill.conf"
#define CREDENTIAL_STORE    "/etc/credstore" /* where LoadCredential= looks by itself: systemd.exec(5) */

typedef struct Config {
    char *database;       /* [Database] Url=; libpq URI or connection string */
    bool hidden;          /* there is a file that this user may not read; a client verb goes on without it */
    bool database_named;  /* by the command line or the environment */
    char **listen;        /* [API] Listen=; HOST:PORT or absolute path, used when no socket was passed in */
    char **allowed_hosts; /* [API] AllowedHosts=; what may stand in Host: besides localhost and loopback */
    char *base_path;      /* [API] BasePath=; of the API behind a proxy; "": none */
    char *tokens;         /* [API] Tokens=; file of access tokens, "": none */
    uint64_t body_max;    /* [API] BodyMax=; bytes */
    uint64_t connections_max;         /* [API] ConnectionsMax=; in all */
    uint64_t address_connections_max; /* [API] AddressConnectionsMax=; from one address beyond loopback */
    uint64_t queue_names;             /* [API] QueueNames=; queues that one token may bring into being */
    char **queues;                    /* [Worker] Queues= */
    uint64_t concurrency;             /* [Worker] Concurrency=; tasks at once */
    char **tasks;                     /* [Worker] TasksPath=; folders of handler files, the first one wins */
    uint64_t grace_usec;              /* [Worker] Grace=; silent for so long: tasks go to others */
    uint64_t payload_memory;          /* [Worker] PayloadMemory=; bytes that large payloads may take */
    uint64_t paused_hold;             /* [Worker] PausedTasksHoldSlots=; a frozen task keeps its slot */
    uint64_t drain_usec;              /* [Worker] DrainSec=; how long running tasks may go on after SIGTERM */
    uint64_t idle_exit_usec;          /* [Worker] IdleExitSec=; nothing to do for so long: it ends */
    /* [Prune] Completed=, Cancelled=, Failed=; how long what ended so is kept; USEC_INFINITY: for ever */
    uint64_t keep_completed_usec, keep_cancelled_usec, keep_failed_usec;
    char *
        file; /* that was looked for; a worker's file of variables lies beside it. NULL: a verb without settings */
} Config;

void config_done(Config *c);

/* Lists are NULL-terminated arrays of strings. */
char **config_list_free(char **list);
size_t config_list_length(char *const *list);

/*
 * Reads everything for a verb. Its options (--config, those of its section, its own) are taken out of argv; what
 * is left, in order, is *ret_args (argv[0] not counted, NULL-terminated, points into argv). section: "API",
 * "Worker", "" for the common ones only, or NULL for none: then no file is read either. On error one line has been logged that names option or key, file and
 * line: -EINVAL usage (EX_USAGE), -EBADMSG the configuration (EX_CONFIG), -ENOMEM.
 */
int config_load(Config *c, const char *section, int argc, char *argv[], char ***ret_args);

/* The same for a verb with options of its own: values[i] is what options[i] was given, NULL if it was not. */
int config_load_with(Config *c, const char *section, const Option *options, const char *values[], int argc,
    char *argv[], char ***ret_args);

/*
 * What a reload does: next, loaded by the same call as c once was, hands over the settings that can change while the
 * service runs, and gets those of c. Of each other one that differs a line is logged. next is the caller's to end.
 */
void config_adopt(Config *c, Config *next, const char *section);

/* The pattern of the files of variables of workers (pgmill-worker@.service(8)); instance: of one. -ENOMEM. */
int config_variables_path(const Config *c, const char *instance, char **ret);
/* Why a variable of these files does nothing for a worker; NULL: it may do something, or be meant for somebody else. */
const char *config_variable_useless(const char *name);

/* Is --help among the options of this command line, as config_load_with() would read it? Not as the argument of another
 * one, nor behind "--". */
bool config_wants_help(const char *section, const Option *options, int argc, char *argv[]);

/* The options of a section, one line each, for --help. */
void config_print_options(const char *section);
void config_print_option(const char *name, const char *argument, const char *help);

/* EX_USAGE, EX_CONFIG or EX_OSERR for an error of config_load(). */
int config_exit_status(int r);
