/* SPDX-License-Identifier: MIT */
#pragma once
/* The stream executor's end: co-processes whose handler is gone, and which have not ended yet, are killed. */
void stream_done(void);
