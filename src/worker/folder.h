/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A working folder for each program, below one of this worker in $TMPDIR or /tmp. Removing what a program left never waits
 * for the disk: a child does it. What a worker leaves that is killed goes with its unit (PrivateTmp=, systemd.exec(5)).
 */
#include <systemd/sd-event.h>

#include "base/util.h"

/* The path of a file beside the folders, for the caller to make and remove. */
int folder_path(const char *name, char **ret_path);
int folder_new(const char *name, char **ret_path); /* mode 0700 */
void folder_remove(
    sd_event *event, const char *path); /* soon, with all that is in it; links are not followed */
void folder_done(void);                 /* the worker's own one, if there is one */
