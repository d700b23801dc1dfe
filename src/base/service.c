/* SPDX-License-Identifier: MIT */
#include "base/service.h"

#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-id128.h>
#include <time.h>

#include "base/log.h"

#define PATIENCE_USEC (15 * USEC_PER_SEC)

static bool said_ready, said_stopping;

static int on_patience(_unused_ sd_event_source *s, _unused_ uint64_t usec, _unused_ void *userdata) {
    if (!said_ready && !said_stopping)
        (void) sd_notify(false, "READY=1");
    return 0;
}

static int on_ignored(
    _unused_ sd_event_source *s, _unused_ const struct signalfd_siginfo *si, _unused_ void *userdata) {
    return 0;
}

int service_loop_new(
    sd_event **ret, sd_event_signal_handler_t on_stop, sd_event_signal_handler_t on_reload, void *userdata) {
    static const int stop_signals[] = { SIGTERM, SIGINT };
    _cleanup_(sd_event_unrefp) sd_event *event = NULL;
    sigset_t mask;
    int r;

    (void) sigemptyset(&mask);
    (void) sigaddset(&mask, SIGTERM);
    (void) sigaddset(&mask, SIGINT);
    (void) sigaddset(&mask, SIGHUP);
    (void) sigaddset(&mask, SIGCHLD);
    /* Ignored, as who started this may have left it, children would end without a word. */
    if (sigprocmask(SIG_BLOCK, &mask, NULL) < 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR ||
        signal(SIGCHLD, SIG_DFL) == SIG_ERR)
        return -errno;
    r = sd_event_default(&event);
    if (r >= 0)
        r = log_set_loop(event);
    if (r < 0)
        return r;
    for (size_t i = 0; i < ELEMENTS(stop_signals); i++) {
        r = sd_event_add_signal(event, NULL, stop_signals[i], on_stop, userdata);
        if (r < 0)
            return r;
    }
    r = sd_event_add_signal(event, NULL, SIGHUP, on_reload ? on_reload : on_ignored, userdata);
    if (r < 0)
        return r;
    r = sd_event_set_watchdog(event, true);
    if (r >= 0)
        r = sd_event_add_time_relative(event, NULL, CLOCK_BOOTTIME, PATIENCE_USEC, 0, on_patience, NULL);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(event);
    return 0;
}

uint64_t service_watchdog(void) {
    uint64_t usec = 0;

    return sd_watchdog_enabled(false, &usec) > 0 ? usec : 0;
}

_Static_assert(SERVICE_LISTEN_FD == SD_LISTEN_FDS_START, "as sd_listen_fds(3) has it");

static int passed;

int service_listen_fds(void) {
    int n = sd_listen_fds(true);

    for (int fd = SD_LISTEN_FDS_START; fd < SD_LISTEN_FDS_START + n; fd++) {
        int flags = fcntl(fd, F_GETFL);
        if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
            return -errno;
    }
    passed = MAX(passed, n);
    return n;
}

void service_refuse_waiting(void) {
    (void) service_listen_fds();
    for (int fd = SD_LISTEN_FDS_START; fd < SD_LISTEN_FDS_START + passed; fd++)
        for (int waiting; (waiting = accept4(fd, NULL, NULL, SOCK_CLOEXEC)) >= 0;)
            (void) close(waiting);
}

bool service_is_listening(int fd, int family) {
    return sd_is_socket(fd, family, SOCK_STREAM, 1) > 0;
}

bool service_manager_runs(void) {
    return sd_booted() > 0;
}

static struct rlimit given_descriptors;

uint64_t service_want_descriptors(uint64_t n) {
    if (getrlimit(RLIMIT_NOFILE, &given_descriptors) < 0)
        return n;
    struct rlimit limit = given_descriptors;
    limit.rlim_cur = MAX(limit.rlim_cur, MIN(limit.rlim_max, (rlim_t) n));
    return setrlimit(RLIMIT_NOFILE, &limit) < 0 ? given_descriptors.rlim_cur : limit.rlim_cur;
}

void service_restore_descriptors(void) {
    if (given_descriptors.rlim_max > 0)
        (void) setrlimit(RLIMIT_NOFILE, &given_descriptors);
}

static void notify(const char *head, const char *format, va_list ap) {
    static char last[512];
    char status[512];

    (void) vsnprintf(status, sizeof(status), format, ap);
    if (!*head && streq(status, last))
        return; /* said already */
    (void) snprintf(last, sizeof(last), "%s", status);
    (void) sd_notifyf(false, "%sSTATUS=%s", head, status);
}

void service_ready(const char *format, ...) {
    va_list ap;

    said_ready = true;
    va_start(ap, format);
    notify("READY=1\n", format, ap);
    va_end(ap);
}

void service_status(const char *format, ...) {
    va_list ap;

    va_start(ap, format);
    notify("", format, ap);
    va_end(ap);
}

void service_reloading(void) {
    struct timespec now = {};

    (void) clock_gettime(CLOCK_MONOTONIC, &now);
    (void) sd_notifyf(false, "RELOADING=1\nMONOTONIC_USEC=%ju",
        (uintmax_t) ((uint64_t) now.tv_sec * USEC_PER_SEC + (uint64_t) now.tv_nsec / NSEC_PER_USEC));
}

void service_reloaded(void) {
    (void) sd_notify(false, "READY=1");
}

int service_credential(const char *name, char **ret_path) {
    const char *folder = getenv("CREDENTIALS_DIRECTORY");
    _cleanup_(freep) char *path = NULL;

    *ret_path = NULL;
    if (!folder)
        return 0;
    int r = string_printf(&path, "%s/%s", folder, name);
    if (r >= 0 && access(path, F_OK) == 0)
        *ret_path = TAKE_PTR(path);
    return r;
}

void service_stopping(void) {
    if (!said_stopping)
        (void) sd_notify(false, "STOPPING=1");
    said_stopping = true;
}

void service_extend_timeout(uint64_t usec) {
    (void) sd_notifyf(false, "EXTEND_TIMEOUT_USEC=%ju", (uintmax_t) usec);
}

int service_boot_identity(char **ret) {
    static const sd_id128_t application =
        SD_ID128_MAKE(5d, 0b, 3c, 9e, 71, f2, 4a, 86, b4, 17, 0e, c8, 62, d9, a1, 35);
    char machine_text[SD_ID128_STRING_MAX], boot_text[SD_ID128_STRING_MAX];
    sd_id128_t machine, boot;

    int r = sd_id128_get_machine_app_specific(
        application, &machine); /* the id itself is nobody else's business */
    if (r >= 0)
        r = sd_id128_get_boot(&boot);
    if (r < 0)
        return r;
    return string_printf(
        ret, "%s %s", sd_id128_to_string(machine, machine_text), sd_id128_to_string(boot, boot_text));
}
