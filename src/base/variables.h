/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Reads a file of environment variables as systemd does for EnvironmentFile=, systemd.exec(5): a service manager hands
 * them over without saying which file and line they are from, and so cannot tell of one that nothing reads.
 */

/* entry is called for each assignment; value is as it stands there, quotes and all, up to the line's end. Errors: errno of
 * opening the file. */
typedef void (*VariableEntry)(void *userdata, unsigned line, const char *name, const char *value);
int variables_read(const char *path, VariableEntry entry, void *userdata);
