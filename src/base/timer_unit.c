/* SPDX-License-Identifier: MIT */
/*
 * systemd sets TRIGGER_UNIT= for what a timer starts (systemd.exec(5), since 252). While the service runs, the timer's
 * TimersCalendar= still holds the time that elapsed, org.freedesktop.systemd1(5); TRIGGER_TIMER_REALTIME_USEC= is when it
 * was noticed, and of an earlier run at times. Once a timer has started it, the service has TRIGGER_UNIT= even when somebody
 * starts it by hand; the timer's next time is still to come then. Where Persistent= makes up for a time that was missed,
 * systemd puts the boot's time in its place. What a calendar means only systemd knows: systemd-analyze(1).
 */
#include <fcntl.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>
#include <time.h>

#include "base/service.h"
#include "base/time.h"

#define MANAGER "org.freedesktop.systemd1"
#define ANALYZE "/usr/bin/systemd-analyze"

void timer_tick_done(TimerTick *t) {
    for (char **c = t->calendar; c && *c; c++)
        free(*c);
    free(t->calendar);
    *t = (TimerTick){};
}

static int add_calendar(TimerTick *t, size_t n, const char *expression) {
    char **list = reallocarray(t->calendar, n + 2, sizeof(char *));

    if (!list)
        return -ENOMEM;
    t->calendar = list;
    list[n] = strdup(expression);
    list[n + 1] = NULL;
    return list[n] ? 0 : -ENOMEM;
}

/* Of a timer's several OnCalendar=, the latest that is not still to come. -ENXIO: none, so the timer did not elapse. */
static int read_tick(sd_bus_message *m, int64_t now, TimerTick *ret) {
    const char *expression;
    uint64_t usec;
    size_t n = 0;

    int r = sd_bus_message_enter_container(m, 'a', "(sst)");
    while (r >= 0 && (r = sd_bus_message_read(m, "(sst)", NULL, &expression, &usec)) > 0) {
        r = add_calendar(ret, n++, expression);
        if (usec <= (uint64_t) now)
            ret->at = MAX(ret->at, (int64_t) usec);
    }
    return r < 0 ? r : ret->at == 0 ? -ENXIO : 0;
}

int service_timer_tick(TimerTick *ret) {
    _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
    _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
    _cleanup_(freep) char *path = NULL;
    const char *unit = getenv("TRIGGER_UNIT");

    *ret = (TimerTick){};
    if (!unit)
        return -ENXIO;
    int r = sd_bus_path_encode("/org/freedesktop/systemd1/unit", unit, &path);
    if (r >= 0)
        r = sd_bus_open_system(&bus);
    if (r >= 0)
        r = sd_bus_get_property(bus, MANAGER, path, MANAGER ".Timer", "TimersCalendar", NULL, &m, "a(sst)");
    if (r >= 0)
        r = read_tick(m, time_now(), ret);
    if (r < 0)
        timer_tick_done(ret);
    return r;
}

/* ---- calendars ---- */

/* "(in UTC): Wed 2026-11-25 07:00:00 UTC", or "Next elapse: " where that is the local time. */
static bool line_elapses(const char *line, int64_t until) {
    struct tm tm = {};
    char zone[4];

    const char *time = strstr(line, ": ");
    if (!time ||
        sscanf(time, ": %*s %d-%d-%d %d:%d:%d %3s", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour,
            &tm.tm_min, &tm.tm_sec, zone) != 7 ||
        !streq(zone, "UTC"))
        return false;
    tm.tm_year -= 1900;
    tm.tm_mon--;
    return (int64_t) timegm(&tm) <= until / (int64_t) USEC_PER_SEC;
}

static int analyze(const char *const words[], int output, pid_t *ret) {
    static char *const environment[] = { (char *) "LC_ALL=C.UTF-8", NULL };
    posix_spawn_file_actions_t actions;

    int r = posix_spawn_file_actions_init(&actions);
    if (r == 0)
        r = posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    if (r == 0)
        r = posix_spawn(ret, ANALYZE, &actions, NULL, (char *const *) words, environment);
    (void) posix_spawn_file_actions_destroy(&actions);
    return -r;
}

int service_calendar_elapses(char *const *calendar, int64_t after, int64_t until) {
    char base[64], line[256];
    bool elapses = false;
    int fds[2], status;
    size_t n = 0;
    pid_t pid;

    (void) snprintf(base, sizeof(base), "--base-time=@%" PRId64 ".%06" PRId64, after / (int64_t) USEC_PER_SEC,
        after % (int64_t) USEC_PER_SEC);
    while (calendar[n])
        n++;
    _cleanup_(freep) const char **words = calloc(n + 4, sizeof(char *));
    if (!words)
        return -ENOMEM;
    memcpy(words, (const char *[]){ ANALYZE, "calendar", base }, 3 * sizeof(char *));
    memcpy(words + 3, calendar, n * sizeof(char *));
    if (pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    FILE *output = fdopen(fds[0], "r");
    int r = output ? analyze(words, fds[1], &pid) : -errno;
    (void) close_fd(fds[1]);
    while (r >= 0 && fgets(line, sizeof(line), output))
        elapses = elapses || line_elapses(line, until);
    if (output)
        (void) fclose(output);
    else
        (void) close_fd(fds[0]);
    if (r >= 0 && (waitpid(pid, &status, 0) < 0 || status != 0))
        r = -EIO;
    return r < 0 ? r : elapses;
}
