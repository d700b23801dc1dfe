/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Instants as text, and spans of time as configuration files write them. Instants are microseconds since
 * 1970-01-01T00:00:00Z.
 */
#include <stdint.h>

/*
 * RFC 3339 date-time: any offset up to 23:59, any number of fraction digits (cut to microseconds), 't' or a
 * blank for 'T', 'z' for 'Z'; a leap second (:60 at 23:59 of UTC) reads as the first of the next day. Without an
 * offset it means UTC, and the seconds may be missing. Years 1970 to 9999, as UTC. -EINVAL not such a text,
 * -ERANGE another year, or a day or hour that no calendar has (24:00 is none).
 */
int time_parse(const char *s, int64_t *ret_usec);

#define TIME_TEXT_SIZE 32
/* "2023-10-01T10:00:00Z"; a fraction of 6 digits only when there is one. Any instant fits. Returns buf. */
const char *time_format(int64_t usec, char buf[static TIME_TEXT_SIZE]);

/* "10min", "1h 30min", "1.5h", "90" (seconds), "infinity" (UINT64_MAX), as systemd.time(7) writes spans:
 * us, ms, s, min, h, d, w and their long names; only a number that stands alone may lack its unit, and months
 * and years, whose length varies, are none. -EINVAL, -ERANGE. */
int time_parse_span(const char *s, uint64_t *ret_usec);

#define TIME_SPAN_SIZE 32
/* A span as time_parse_span() reads it back, in the largest unit that leaves no rest: "90s", "2h". Returns buf. */
const char *time_format_span(uint64_t usec, char buf[static TIME_SPAN_SIZE]);

/* An instant. */
int64_t time_now(void);
/* CLOCK_BOOTTIME, which goes on while the machine sleeps. */
uint64_t time_now_boottime(void);
/* CLOCK_MONOTONIC, which stands still while it sleeps. */
uint64_t time_now_monotonic(void);
