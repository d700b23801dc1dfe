/* SPDX-License-Identifier: MIT */
#include "base/verb.h"

#include <stdio.h>

#include "base/config.h"

bool verb_is_help(const Verb *verb, int argc, char *argv[]) {
    return config_wants_help(verb->section, verb->options, argc, argv);
}

void verb_print_help(const Verb *verb) {
    printf("pgmill %s %s\n\n%s.\n", verb->name, verb->arguments, verb->summary);
    if (verb->help && *verb->help)
        printf("\n%s", verb->help);
    printf("\nOptions:\n");
    for (const Option *o = verb->options; o && o->name; o++)
        config_print_option(o->name, o->argument, o->help);
    config_print_options(verb->section);
}
