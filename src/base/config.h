/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Settings: one table row a key. From low to high: the default, the configuration file (INI), the environment,
 * the command line. The only file that knows libinih, for the configuration and for handler files alike.
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/util.h"
#include "base/verb.h"

#define CONFIG_FILE_DEFAULT "/etc/pgmill/pgmill.conf"

typedef struct Config {
    char *database;       /* [Database] Url=; libpq URI or connection string */
    char **listen;        /* [API] Listen=; HOST:PORT or absolute path, used when no socket was passed in */
    char **allowed_hosts; /* [API] AllowedHosts=; what may stand in Host: besides localhost and loopback */
    uint64_t body_max;    /* [API] BodyMax=; bytes */
    char **queues;        /* [Worker] Queues= */
    uint64_t concurrency; /* [Worker] Concurrency=; tasks at once */
    char **tasks;         /* [Worker] TasksPath=; folders of handler files, the first one wins */
    uint64_t grace_usec;  /* [Worker] Grace=; silent for so long: tasks go to others */
    uint64_t drain_usec;  /* [Worker] DrainSec=; how long running tasks may go on after SIGTERM */
} Config;

void config_done(Config *c);

/* Lists are NULL-terminated arrays of strings. */
char **config_list_free(char **list);
size_t config_list_length(char *const *list);

/*
 * Reads everything for a verb. Its options (--config, those of its section, its own) are taken out of argv; what
 * is left, in order, is *ret_args (argv[0] not counted, NULL-terminated, points into argv). section: "API",
 * "Worker", or "" for the common ones only. On error one line has been logged that names option or key, file and
 * line: -EINVAL usage (EX_USAGE), -EBADMSG the configuration (EX_CONFIG), -ENOMEM.
 */
int config_load(Config *c, const char *section, int argc, char *argv[], char ***ret_args);

/* The same for a verb with options of its own: values[i] is what options[i] was given, NULL if it was not. */
int config_load_with(Config *c, const char *section, const Option *options, const char *values[], int argc,
    char *argv[], char ***ret_args);

/* The options of a section, one line each, for --help. */
void config_print_options(const char *section);
void config_print_option(const char *name, const char *argument, const char *help);

/* EX_USAGE, EX_CONFIG or EX_OSERR for an error of config_load(). */
int config_exit_status(int r);

/*
 * Reads an INI file in unit-file manners: [Section], Key=Value, '#' and ';' comments.
 * entry is called for each assignment; it returns 0, or a negative errno that ends the reading.
 * Errors: errno of opening and reading; -EBADMSG a line that is none of these, *ret_line says which;
 * -EFBIG over 64 KiB.
 */
typedef int (*ConfigEntry)(
    void *userdata, unsigned line, const char *section, const char *key, const char *value);
int config_read_file(const char *path, ConfigEntry entry, void *userdata, unsigned *ret_line);
/* The same from memory. */
int config_read_text(const char *text, size_t len, ConfigEntry entry, void *userdata, unsigned *ret_line);
