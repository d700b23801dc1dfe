/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A working folder for each program, below $RUNTIME_DIRECTORY (systemd.exec(5)) or, where there is none, below a
 * folder of this worker in the folder for temporary files. Removing what a program left never waits for the disk:
 * a child does it.
 */
#include <systemd/sd-event.h>

#include "base/util.h"

/* The path of a file beside the folders, for the caller to make and remove. */
int folder_path(const char *name, char **ret_path);
int folder_new(const char *name, char **ret_path); /* mode 0700 */
void folder_remove(
    sd_event *event, const char *path); /* soon, with all that is in it; links are not followed */
void folder_done(void);                 /* the worker's own one, if there is one */
