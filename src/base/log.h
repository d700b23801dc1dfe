/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The log. Only the top of a role logs an error; everything below returns it. To the journal when standard
 * error is connected to it, with fields where there are any, or a loop; else one line each on standard error. With a
 * loop it never waits: what is not taken at once is tried again later, up to a bound; what is beyond it is dropped, and
 * it says how many lines were.
 */
#include <stddef.h>
#include <syslog.h>
#include <systemd/sd-event.h>

#include "base/util.h"

/* Call once, before the first line. name: "pgmill-api", for people and SYSLOG_IDENTIFIER=. */
void log_open(const char *name);
void log_set_level(int level); /* LOG_INFO unless told */
/* For a process with a loop: a journal, pipe or terminal that takes nothing must not hold it up. Once. */
int log_set_loop(sd_event *event);
/* Hands over what was not taken yet, at the end of the process. Waits for it, but no two seconds
 * in which nothing is taken. */
void log_close(void);

/* %m prints the error given to log_*_errno(), which return that error, so: return log_error_errno(r, "…: %m"). */
int log_full(int level, int error, const char *format, ...) _printf_(3, 4);
#define log_error(...)            ((void) log_full(LOG_ERR, 0, __VA_ARGS__))
#define log_warning(...)          ((void) log_full(LOG_WARNING, 0, __VA_ARGS__))
#define log_notice(...)           ((void) log_full(LOG_NOTICE, 0, __VA_ARGS__))
#define log_info(...)             ((void) log_full(LOG_INFO, 0, __VA_ARGS__))
#define log_debug(...)            ((void) log_full(LOG_DEBUG, 0, __VA_ARGS__))
#define log_error_errno(r, ...)   log_full(LOG_ERR, (r), __VA_ARGS__)
#define log_warning_errno(r, ...) log_full(LOG_WARNING, (r), __VA_ARGS__)

/* A task's journal fields. id NULL: of a program that runs many tasks of that name; no queue and no attempt then. */
typedef struct LogTask {
    const char *id, *name, *queue;
    unsigned attempt;
} LogTask;
/* One line of a task's standard error, len bytes without the newline. */
void log_task_line(const LogTask *task, int level, const char *text, size_t len);

/* A line with an id of log_id.h and about a task; either may be NULL. */
void log_event(int level, const char *id, const LogTask *task, const char *format, ...) _printf_(4, 5);

/* Somebody reads along: gets every line about a task, from within the call that logs it, and must log nothing. NULL:
 * nobody any more. */
typedef void (*LogTap)(const LogTask *task, int level, const char *text, size_t len, void *userdata);
void log_set_tap(LogTap tap, void *userdata);
