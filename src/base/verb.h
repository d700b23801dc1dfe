/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A verb of the executable: what a role exports and main joins in a table.
 */
#include <stdbool.h>
#include <stddef.h>

/* An option of one verb alone; those that many share are in config.c's table. */
typedef struct Option {
    const char *name;     /* "priority", without the dashes; NULL ends a table */
    const char *argument; /* "LEVEL"; NULL: a flag, its value is "" when given */
    const char *help;
} Option;

typedef struct Verb {
    const char *name;
    int (*run)(int argc, char *argv[]); /* argv[0] is the verb; returns an exit status of sysexits.h */
    const char *arguments;              /* "[OPTION…] NAME" */
    const char *summary;                /* "Serve the REST API" */
    const char *help;                   /* more lines for --help, ending in a newline; "" */
    const char *section;                /* "API", "Worker", "": which shared options it takes */
    const Option *options;              /* its own; NULL: none */
} Verb;

/* Is it `pgmill VERB --help`? Arguments as of run(). */
bool verb_is_help(const Verb *verb, int argc, char *argv[]);

/* What `pgmill VERB --help` prints. */
void verb_print_help(const Verb *verb);
