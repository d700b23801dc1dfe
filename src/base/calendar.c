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

#define ANALYZE "/usr/bin/systemd-analyze"

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
