/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The service manager's side of a role: sockets passed in, readiness, status, watchdog, stopping. All of it does
 * nothing, harmlessly, when no service manager listens. The only file that knows sd-daemon and sd-id128.
 */
#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/util.h"

/* The loop every role runs: SIGTERM and SIGINT are blocked and call on_stop, SIGHUP calls on_reload (NULL:
 * ignored), the watchdog is fed by the loop itself, so it proves that the loop turns and nothing else. READY=1 is said
 * after 15 s at the latest: a boot, and an installation, wait for those who start, and not for a database. */
int service_loop_new(
    sd_event **ret, sd_event_signal_handler_t on_stop, sd_event_signal_handler_t on_reload, void *userdata);

/* Sockets from the service manager: their number, descriptors from SERVICE_LISTEN_FD on, made close-on-exec and
 * non-blocking, and the environment cleaned of them. */
#define SERVICE_LISTEN_FD 3
int service_listen_fds(void);
/* For who cannot go on: ends the connections that wait in those sockets, since each would have the service started anew. */
void service_refuse_waiting(void);
/* A stream socket that listens; family: AF_UNIX and its like, AF_UNSPEC: any. */
bool service_is_listening(int fd, int family);

/* Is systemd this machine's service manager? */
bool service_manager_runs(void);

void service_ready(const char *format, ...) _printf_(1, 2);  /* READY=1 and STATUS=; */
void service_status(const char *format, ...) _printf_(1, 2); /* STATUS= */
void service_stopping(void);                                 /* STOPPING=1, once */
void service_extend_timeout(uint64_t usec);                  /* EXTEND_TIMEOUT_USEC= */
void service_reloading(
    void); /* RELOADING=1 and MONOTONIC_USEC=: for Type=notify and Type=notify-reload alike */
void service_reloaded(void); /* READY=1, the status stays */
/* The file of a credential (systemd.exec(5), LoadCredential=) if the service manager passed one of that name, else
 * NULL. -ENOMEM. */
int service_credential(const char *name, char **ret_path);
/* What the timer that started this process says. at: µs since 1970 that it was to elapse at, the same on every host that
 * has it, and not when it did; where a tick was missed, when this host booted; later by RandomizedDelaySec=, if there is
 * one. calendar: its OnCalendar=, NULL-terminated. */
typedef struct TimerTick {
    int64_t at;
    char **calendar;
} TimerTick;
/* Asks the system bus. -ENXIO: no timer started it; others: the bus or systemd did not answer. */
int service_timer_tick(TimerTick *ret);
void timer_tick_done(TimerTick *t);
/* Does one of these elapse after one time and not after another one? 1, 0. Asks systemd-analyze(1); errors: it did not
 * answer. */
int service_calendar_elapses(char *const *calendar, int64_t after, int64_t until);
/* The next local time, within a year, that one (as systemd writes it) names and that does not exist, since clocks are put
 * forward over it: when that hour begins, by those clocks. 1 found, 0 there is none. Errors as above. */
#define CALENDAR_TEXT_SIZE 64
int service_calendar_gap(const char *expression, char ret[static CALENDAR_TEXT_SIZE]);
/* OnCalendar= of a timer that is loaded, NULL-terminated: config_list_free(). Errors: the bus or systemd did not answer. */
int service_timer_calendar(const char *unit, char ***ret);
/* When a unit that runs, or is about to, was started: µs since 1970; 0: it does not run. Errors: the bus or systemd did not
 * answer. */
int service_unit_begun(const char *unit, uint64_t *ret_usec);
/* Is it started at boot, or with what it belongs to? 1, 0. Errors: the bus or systemd did not answer. */
int service_unit_is_enabled(const char *unit);
/* Has it an IPAddressDeny=? 1, 0. Errors as above. */
int service_unit_denies_addresses(const char *unit);
/* Adds the names of units in a state such as "failed", with commas, and answers how many. pattern: as systemctl(1) takes it.
 * Errors: the bus or systemd did not answer. */
int service_units(const char *pattern, const char *state, Buf *names);
/* How long the service manager waits for a sign of life, in µs; 0: it has no watchdog. */
uint64_t service_watchdog(void);
/* Raises the soft limit of open descriptors to n, or to the hard limit if that is lower; returns what it is. */
uint64_t service_want_descriptors(uint64_t n);
/* For a forked child, async-signal-safe: the limit as this process was given it (select() needs a low one). */
void service_restore_descriptors(void);

/* Names this host's present boot: no other machine, clones of it that were started apart included, and no other boot
 * has the same. Errors: there is no machine id (negative errno). */
int service_boot_identity(char **ret);

static inline void service_stoppingp(_unused_ void *unused) {
    service_stopping();
}
