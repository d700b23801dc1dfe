/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What a client is told when the database did not do as asked, for reasons that are not the client's.
 */
#include "api/http.h"
#include "api/link.h"

/* 503: the connection cannot be used now, so nothing was tried. */
void failure_answer_unusable(HttpRequest *r, const Link *link);

/* 504 when an answer is lost that says what was done. 503 for what passes by itself (lost, retry, locked); else 500, and a line in the log, at most one every 10 s. */
void failure_answer(HttpRequest *r, const DbReply *reply);
