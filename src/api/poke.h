/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Workers of this host that start on demand (pgmill-worker@.socket): when tasks wait in a queue that no living worker
 * serves, each is told to look. Asks the database once a second while there is a socket; none: it asks nothing.
 */
#include "api/link.h"

typedef struct Poke Poke;

int poke_new(Poke **ret, sd_event *event, Link *link); /* -ENOMEM, and errors of sd-event */
Poke *poke_free(Poke *p);                              /* returns NULL; NULL is fine */
