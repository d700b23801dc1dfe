/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Whether a submission would be stored. What became of the last one tells; where there was none for a while, and every
 * second while it is not so, one is rehearsed: stored, and taken back in the same transaction.
 */
#include "api/link.h"

typedef struct Storing Storing;

/* changed: another answer of storing_works() or storing_why(), from the loop. */
int storing_new(Storing **ret, sd_event *event, Link *link, void (*changed)(void *userdata),
    void *userdata);               /* -ENOMEM … */
Storing *storing_free(Storing *s); /* after the link was closed */

/* What became of submissions that had so many bytes. */
void storing_told(Storing *s, const DbReply *reply, size_t bytes);
void storing_link_changed(Storing *s);

bool storing_works(const Storing *s);
const char *storing_why(const Storing *s); /* why not; NULL while that is not known. The server's own words */
