/* SPDX-License-Identifier: MIT */
#pragma once
/* What the worker needs to know of the stream executor: its co-processes outlive their handler, whose end closes their
 * standard input, until they have ended, KillGrace= at most. */
#include "base/util.h"

bool stream_closing(void); /* one of them has not ended yet */
/* Called whenever one of them has. Once, before any. */
void stream_on_closed(void (*closed)(void *userdata), void *userdata);
void stream_kill_closing(void); /* does not wait for them */
void stream_done(void);         /* kills them, and waits */
