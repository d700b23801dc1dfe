/* SPDX-License-Identifier: MIT */
/* What an OnCalendar= means only systemd knows: systemd-analyze(1) says it. */
#include <fcntl.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>

#include "base/config.h"
#include "base/service.h"

#define ANALYZE  "/usr/bin/systemd-analyze"
#define YEAR_SEC (366 * 86400)
#define STEP_SEC 900 /* no zone changes its clocks twice in it, or at a time between */

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
    const size_t n = config_list_length(calendar);
    pid_t pid;

    (void) snprintf(base, sizeof(base), "--base-time=@%" PRId64 ".%06" PRId64, after / (int64_t) USEC_PER_SEC,
        after % (int64_t) USEC_PER_SEC);
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

/* ---- hours that do not exist ---- */

/* The last word, unless that is the time: "Mon..Fri *-*-* 02:30:00 Europe/Berlin". NULL: this host's. */
static const char *zone_of(const char *expression) {
    const char *blank = strrchr(expression, ' ');

    return blank && !strchr(blank, ':') ? blank + 1 : NULL;
}

static long offset_at(time_t t) {
    struct tm tm = {};

    (void) localtime_r(&t, &tm);
    return tm.tm_gmtoff;
}

/* Where clocks are put forward next: what they show then, and what they would have shown, in seconds as if that were UTC. */
static bool find_gap(time_t from, int64_t ret[static 2]) {
    long before = offset_at(from);

    for (time_t t = from - from % STEP_SEC; t < from + YEAR_SEC; t += STEP_SEC) {
        long after = offset_at(t);
        if (after > before) {
            ret[0] = (int64_t) t + before;
            ret[1] = (int64_t) t + after;
            return true;
        }
        before = after;
    }
    return false;
}

static void zone_set(const char *zone) {
    (void) (zone ? setenv("TZ", zone, 1) : unsetenv("TZ"));
    tzset();
}

/* The same expression in UTC names all hours: does it name one of those that are left out? */
static int names_gap(const char *expression, const char *zone, const int64_t gap[static 2]) {
    const int second = (int) USEC_PER_SEC;
    _cleanup_(freep) char *plain = NULL;
    size_t n = zone ? (size_t) (zone - expression - 1) : strlen(expression);

    if (string_printf(&plain, "%.*s UTC", (int) n, expression) < 0)
        return -ENOMEM;
    return service_calendar_elapses((char *[]){ plain, NULL }, (gap[0] - 1) * second, gap[1] * second - 1);
}

int service_calendar_gap(const char *expression, char ret[static CALENDAR_TEXT_SIZE]) {
    _cleanup_(freep) char *former = NULL;
    const char *zone = zone_of(expression), *set = getenv("TZ");
    int64_t gap[2];
    struct tm tm;

    if (set && string_replace(&former, set) < 0)
        return -ENOMEM;
    if (zone)
        zone_set(zone);
    bool found = find_gap(time(NULL), gap);
    if (zone)
        zone_set(former);
    int r = found ? names_gap(expression, zone, gap) : 0;
    time_t begins = found ? (time_t) gap[0] : 0;
    if (r > 0 && gmtime_r(&begins, &tm))
        (void) strftime(ret, CALENDAR_TEXT_SIZE, "%Y-%m-%d %H:%M", &tm);
    return r;
}
