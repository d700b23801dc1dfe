/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The control sockets of this host's workers, seen from outside: one for each pgmill-worker@NAME.socket. Who connects
 * starts the worker. What is said there, see worker/control.h. Whether it runs is seen by a lock that it holds.
 */
#include "base/util.h"

#define LOCAL_FOLDER      "/run/pgmill/worker"
#define LOCAL_ALIVE       "/run/pgmill/alive" /* of pgmill-worker@.service, for all instances: RuntimeDirectory= */
#define LOCAL_WORKERS_MAX 256

/* Calls visit with the name of each, sorted, until it returns a negative errno, which is forwarded. None: 0. */
int local_workers(int (*visit)(const char *name, void *userdata), void *userdata);

/* The worker's side: holds the lock in $RUNTIME_DIRECTORY, if there is one, until this process ends. */
int local_hold(const char *name);
bool local_holds(const char *name); /* somebody does */

/* Connects without waiting; the socket is non-blocking. *ret_fd is the caller's. -ECONNREFUSED nobody listens; -EAGAIN
 * too many wait in it; -EACCES; -ENOENT; -ENAMETOOLONG. */
int local_connect(const char *name, int *ret_fd);
