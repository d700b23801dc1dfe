/* SPDX-License-Identifier: MIT */
#include "main/setup.h"

#include <stdarg.h>
#include <stdio.h>
#include <sysexits.h>

#include "base/config.h"
#include "base/log.h"

#define WORKERS_MAX 64

enum { OPTION_URL, OPTION_WORKERS, OPTION_DATABASE_ONLY, OPTION_DRY_RUN, _OPTION_MAX };

static const Option options[] = {
    [OPTION_URL] = { "url", "URL", "the database, if it is not \"pgmill\" of the PostgreSQL on this host" },
    [OPTION_WORKERS] = { "workers", "N", "how many workers to start on this host (default: 2)" },
    [OPTION_DATABASE_ONLY] = { "database-only", NULL,
        "role, database and schema; leave this host's services alone" },
    [OPTION_DRY_RUN] = { "dry-run", NULL, "say what would be done, and do nothing" },
    {},
};

void setup_say(const char *subject, const char *format, ...) {
    va_list ap;

    printf("%s: ", subject);
    va_start(ap, format);
    vprintf(format, ap);
    va_end(ap);
    (void) putchar('\n');
    (void) fflush(stdout);
}

void setup_done(Setup *s) {
    free(s->url);
    free(s->host);
    free(s->port);
    free(s->role);
    free(s->database);
}

/* What the services do not see must decide nothing here: PGHOST, PGMILL_DATABASE … */
static void environment_clear(void) {
    for (char **p = environ; *p;) {
        char name[64];
        size_t n = strcspn(*p, "=");
        if (strncmp(*p, "PG", 2) != 0 || n >= sizeof(name)) {
            p++;
            continue;
        }
        memcpy(name, *p, n);
        name[n] = '\0';
        (void) unsetenv(name);
        p = environ;
    }
}

/* The URL: that of the command line, which must not contradict the configuration file, else the file's. */
static int url_find(Setup *s, const char *given) {
    _cleanup_(config_done) Config config = {};
    char *argv[] = { (char *) "setup", NULL }, **args;

    int r = config_load(&config, "", 1, argv, &args);
    if (r < 0)
        return config_exit_status(r);
    if (given && !s->database_only && access(CONFIG_FILE_DEFAULT, F_OK) == 0 &&
        !streq(given, config.database)) {
        log_error("--url: the services use another database already, by Url= in the section [Database] "
                  "of " CONFIG_FILE_DEFAULT
                  " or by a credential; change that, then repeat \"pgmill setup\" without --url");
        return EX_CONFIG;
    }
    s->url_given = given != NULL;
    if (string_replace(&s->url, given ? given : config.database) < 0)
        return EX_OSERR;
    return setup_database_parse(s);
}

static int parse(Setup *s, int argc, char *argv[]) {
    _cleanup_(config_done) Config config = {};
    const char *values[_OPTION_MAX];
    char **args;

    int r = config_load_with(&config, NULL, options, values, argc, argv, &args);
    if (r < 0)
        return config_exit_status(r);
    if (args[0]) {
        log_error("\"pgmill setup\" takes options only");
        return EX_USAGE;
    }
    s->workers = 2;
    if (values[OPTION_WORKERS] && parse_uint(values[OPTION_WORKERS], WORKERS_MAX, &s->workers) < 0) {
        log_error("--workers: \"%s\" is not a number from 0 to %d", values[OPTION_WORKERS], WORKERS_MAX);
        return EX_USAGE;
    }
    s->dry_run = values[OPTION_DRY_RUN];
    s->database_only = values[OPTION_DATABASE_ONLY];
    environment_clear();
    return url_find(s, values[OPTION_URL]);
}

static int database_steps(const Setup *s) {
    const char *user = s->database_only ? NULL : SERVICE_USER;

    if (!s->local)
        return setup_as(user, setup_schema_remote, s);
    int status = setup_as(DATABASE_USER, setup_cluster, s);
    if (status == EX_OK)
        status = setup_as(DATABASE_USER, setup_schema_local, s);
    if (status == EX_OK && !s->database_only && !s->dry_run)
        status = setup_as(SERVICE_USER, setup_connection_check, s);
    return status;
}

static int host_steps(Setup *s) {
    int status = setup_configuration(s);
    if (status == EX_OK && s->beyond)
        status = setup_network(s);
    return status == EX_OK ? setup_units(s) : status;
}

static int run(int argc, char *argv[]) {
    _cleanup_(setup_done) Setup s = {};

    int status = parse(&s, argc, argv);
    if (status == EX_OK && !s.database_only)
        status = setup_host_check(&s);
    if (status == EX_OK && !s.database_only)
        status = setup_configuration_check(&s);
    if (status == EX_OK)
        status = database_steps(&s);
    if (status == EX_OK && !s.database_only)
        status = host_steps(&s);
    if (status == EX_OK && !s.dry_run)
        (void) puts(s.database_only ? "The database is ready."
                                    : "pgmill is ready; \"pgmill doctor\" looks after it.");
    return status;
}

const Verb setup_verb = {
    .name = "setup",
    .run = run,
    .arguments = "[OPTION…]",
    .summary = "Make the database ready and start the services",
    .help =
        "Through the PostgreSQL on this host it creates the role and the database, both called pgmill, the\n"
        "groups of roles and the schema; writes " CONFIG_FILE_DEFAULT " unless there is one; enables and\n"
        "starts the API and the workers 1 to N. With --url naming another host, role and database must be\n"
        "there already: it checks the connection and creates the schema. Needs root. May be repeated: it\n"
        "says what it leaves alone.\n",
    .section = NULL,
    .options = options,
};
