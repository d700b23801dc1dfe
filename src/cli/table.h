/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the database shows as JSON, for people at a terminal: a table of objects, or the members of one. Or, when asked
 * for, as the JSON it is.
 */
#include <stdbool.h>

#include "base/verb.h"
#include "store/admin.h"

/* The title is the member's name in capitals, unless told. One without member ends the list. */
typedef struct Column {
    const char *member, *title;
} Column;

/* A verb that shows: columns of the array's objects, one a line; without columns the members of the whole, one a line,
 * those of objects in it as "tasks.RUNNING". */
typedef struct View {
    AdminView view;
    const char *what; /* "list queues", for "Cannot list queues: …" */
    const char *array;
    const Column *columns;
} View;

/* All such a verb does. Returns an exit status. */
int table_run(const View *view, int argc, char *argv[]);

/* Prints the objects of the array that is this member of text: a table, or as they are, one a line. */
int table_print(const char *text, const char *array, const Column columns[], bool json);

extern const Option table_options[];
