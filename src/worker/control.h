/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A worker's control socket, which the service manager passes in (pgmill-worker@.socket): whoever may open it asks by
 * words, one a line, and gets JSON objects, one a line.
 *
 *   status   what the worker does: its name, slots, queues and database, and the tasks that run
 *   log      from now on, each line of the log that is about a task: its standard error and its story
 *   wake     look for tasks now
 *
 * Another word gets {"error": …}. A reader of the log that is too slow loses lines, and is told how many: {"dropped": n}.
 */
#include "base/util.h"

#define CONTROL_PEERS_MAX 16
#define CONTROL_LINE_MAX  64                    /* bytes of a word */
#define CONTROL_OUT_MAX   ((size_t) 256 * 1024) /* of lines that one peer has yet to read */

typedef struct Control Control;
typedef struct Worker Worker;

/* Takes the socket that was passed in; *ret is NULL when none was. -EBADMSG: it is none to listen on, or there are
 * several; logged. */
int control_new(Control **ret, Worker *w);
Control *control_free(Control *c); /* returns NULL; NULL is fine */

/* Does anybody read the log? */
bool control_followed(const Control *c);
