/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * pgmill setup: from an installed package to running services. setup.c decides what is to be done and in which order,
 * setup_database.c does it to PostgreSQL, setup_host.c to this host. Every step looks first, says in one line what it
 * did or left alone, and may be repeated.
 */
#include <pwd.h>

#include "base/util.h"
#include "base/verb.h"
#include "store/db.h" /* SERVICE_USER */

#define DATABASE_USER "postgres" /* PostgreSQL's own, on this host */

typedef struct Setup {
    char *url;      /* what the services connect with */
    bool url_given; /* on the command line: it belongs into the configuration file */
    bool local;     /* through a Unix socket of this host */
    bool beyond;    /* on another host, as far as the URL tells */
    bool dry_run, database_only;
    uint64_t workers;
    char *host, *port; /* of the URL; NULL: libpq's */
    char *role, *database;
} Setup;

extern const Verb setup_verb;

void setup_done(Setup *s);

/* Every step returns an exit status of sysexits.h; unless it is EX_OK, it has logged what is wrong and the remedy. */
typedef int (*SetupStep)(const Setup *s);

/* "SUBJECT: what was done", on standard output. */
void setup_say(const char *subject, const char *format, ...) _printf_(2, 3);

/* ---- setup_database.c ---- */
int setup_database_parse(Setup *s);         /* url → local, host, port, role, database */
int setup_cluster(const Setup *s);          /* role and database; as a superuser of a local PostgreSQL */
int setup_schema_local(const Setup *s);     /* … and the schema, which then belongs to the role */
int setup_schema_remote(const Setup *s);    /* with the services' own URL */
int setup_connection_check(const Setup *s); /* is all this within reach of whoever calls? */

/* ---- setup_host.c ---- */
int setup_host_check(const Setup *s); /* root, systemd, units, user */
/* For good. HOME goes along, where libpq looks for certificates. */
int setup_become(const struct passwd *pw);
/* Runs a step as another user, in a child; as oneself without being root. */
int setup_as(const char *user, SetupStep step, const Setup *s);
int setup_configuration_check(const Setup *s); /* can the URL be written, and be read back? */
int setup_configuration(const Setup *s);
int setup_network(const Setup *s); /* workers reach no other host as shipped */
int setup_units(const Setup *s);
/* Calls visit for each worker and API of this host that was started before the files it goes by were changed, until that
 * answers something else than 0, and answers the same. Negative errno: systemd did not answer, or there was no memory. */
int setup_stale_visit(int (*visit)(const char *unit, void *userdata), void *userdata);
