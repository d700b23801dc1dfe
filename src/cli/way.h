/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * How a verb reaches the queue: the database, or, for a user whom it does not let in, the API of this host by its Unix
 * socket or where Listen= says. Who names a database by --database or PGMILL_DATABASE gets that one or none.
 */
#include "base/config.h"
#include "store/db.h"

typedef struct Way {
    const Config *config;
    Db *db;      /* NULL: by the API */
    char *no_db; /* why */
    char *api;   /* where it answered, for messages */
} Way;

void way_done(Way *w);

/* EX_OK: way->db is a connection, or NULL: ask the API. Else a line was logged. */
int way_find(Way *w, const Config *config);

/*
 * One request to the API. what: "submit the task", for "Cannot submit the task …". body: JSON, NULL: none. Returns an exit
 * status; EX_OK: a code of 2xx in *ret_code, and its body in *ret. Else a line was logged that says which way was gone.
 */
int way_ask(
    Way *w, const char *what, const char *method, const char *path, const Buf *body, int *ret_code, Buf *ret);

/* "&NAME=VALUE", encoded; nothing where value is NULL. */
void way_parameter(Buf *path, const char *name, const char *value);
