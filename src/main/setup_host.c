/* SPDX-License-Identifier: MIT */
/*
 * This host's half of pgmill setup: users, files, units. Programs are run by absolute path, with fixed words and a
 * clean environment.
 */
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>

#include "base/config.h"
#include "base/ini.h"
#include "base/log.h"
#include "base/service.h"
#include "main/setup.h"

#define SYSTEMCTL       "/usr/bin/systemctl"
#define START_LIMIT_SEC 60
#define UNIT_SIZE       40
#define UNITS_FIXED     ELEMENTS(units_fixed)
#define DROP_IN_FOLDER  "/etc/systemd/system/pgmill-worker@.service.d"
#define DROP_IN_FILE    DROP_IN_FOLDER "/database.conf"

/* Besides the workers. */
static const char *const units_fixed[] = { "pgmill.target", "pgmill-api.socket", "pgmill-api.service",
    "pgmill-prune.timer" };

/* ---- systemctl ---- */

/* Its exit status; -ETIME: it still waits; a negative errno. loud: its messages are for whoever calls. */
static int systemctl(const char *const words[], bool loud) {
    static char *const environment[] = { (char *) "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        (char *) "LC_ALL=C.UTF-8", NULL };
    posix_spawn_file_actions_t actions;
    int status = 0;
    pid_t pid;

    int r = posix_spawn_file_actions_init(&actions);
    for (int fd = STDIN_FILENO; r == 0 && fd <= STDERR_FILENO; fd++)
        if (fd == STDIN_FILENO || !loud)
            r = posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
    if (r == 0)
        r = posix_spawn(&pid, SYSTEMCTL, &actions, NULL, (char *const *) words, environment);
    (void) posix_spawn_file_actions_destroy(&actions);
    if (r != 0)
        return -r;
    _cleanup_(closep) int fd = pidfd_open(pid, 0);
    struct pollfd ended = { .fd = fd, .events = POLLIN };
    if (fd >= 0 && poll(&ended, 1, START_LIMIT_SEC * 1000) == 0) {
        (void) kill(pid, SIGTERM); /* it only waits: what it asked for goes on */
        (void) waitpid(pid, &status, 0);
        return -ETIME;
    }
    if (waitpid(pid, &status, 0) < 0)
        return -errno;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -EINTR;
}

static bool unit_is(const char *question, const char *unit) { /* "is-active", "is-enabled", "cat" */
    return systemctl((const char *[]){ SYSTEMCTL, question, unit, NULL }, false) == 0;
}

/* ---- what there must be ---- */

int setup_host_check(const Setup *s) {
    if (geteuid() != 0 && !s->dry_run) {
        log_error(
            "\"pgmill setup\" needs root: sudo pgmill setup; \"pgmill setup --dry-run\" only tells what it "
            "would do");
        return EX_NOPERM;
    }
    if (!service_manager_runs() || access(SYSTEMCTL, X_OK) < 0) {
        log_error("systemd does not run on this host: start the services by other means, for example "
                  "contrib/up, and "
                  "make the database ready with \"pgmill setup --database-only\"");
        return EX_UNAVAILABLE;
    }
    if (!getpwnam(SERVICE_USER)) {
        log_error("There is no user \"" SERVICE_USER "\" for the services to run as: the package creates it; "
                  "otherwise run systemd-sysusers");
        return EX_NOUSER;
    }
    if (!unit_is("cat", units_fixed[0])) {
        log_error(
            "systemd does not know pgmill's units: install the package, or \"meson install\", then systemctl "
            "daemon-reload");
        return EX_UNAVAILABLE;
    }
    return EX_OK;
}

/* ---- as somebody else ---- */

int setup_become(const struct passwd *pw) {
    if (initgroups(pw->pw_name, pw->pw_gid) < 0 || setresgid(pw->pw_gid, pw->pw_gid, pw->pw_gid) < 0 ||
        setresuid(pw->pw_uid, pw->pw_uid, pw->pw_uid) < 0 || chdir("/") < 0 ||
        setenv("HOME", pw->pw_dir, 1) < 0)
        return -errno;
    return 0;
}

int setup_as(const char *user, SetupStep step, const Setup *s) {
    int status;

    if (!user || geteuid() != 0)
        return step(s);
    const struct passwd *pw = getpwnam(user);
    if (!pw) {
        log_error(
            "There is no user \"%s\" on this host: install PostgreSQL (apt install postgresql), or name a "
            "database elsewhere by --url",
            user);
        return EX_NOUSER;
    }
    (void) fflush(stdout);
    pid_t pid = fork();
    if (pid < 0) {
        (void) log_error_errno(-errno, "Cannot start a process: %m");
        return EX_OSERR;
    }
    if (pid == 0) {
        int r = setup_become(pw);
        if (r < 0)
            (void) log_error_errno(r, "Cannot become the user %s: %m", user);
        status = r < 0 ? EX_OSERR : step(s);
        (void) fflush(stdout);
        _exit(status);
    }
    return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : EX_SOFTWARE;
}

/* ---- files ---- */

/* Appears whole or not at all. */
static int file_create(const char *path, const Buf *text, mode_t mode, gid_t group) {
    _cleanup_(freep) char *temporary = NULL;

    if (string_printf(&temporary, "%s.new", path) < 0)
        return -ENOMEM;
    (void) unlink(temporary);
    _cleanup_(closep) int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    ssize_t n = write(fd, text->data, text->len);
    int r = n < 0 ? -errno : (size_t) n < text->len ? -ENOSPC : 0;
    if (r >= 0 &&
        (fchown(fd, 0, group) < 0 || fchmod(fd, mode) < 0 || fsync(fd) < 0 || rename(temporary, path) < 0))
        r = -errno;
    if (r < 0)
        (void) unlink(temporary);
    return r;
}

static int file_write(const char *folder, const char *path, const Buf *text, mode_t mode, gid_t group) {
    int r = buf_error(text);

    if (r >= 0 && mkdir(folder, 0755) < 0 && errno != EEXIST)
        r = -errno;
    if (r >= 0)
        r = file_create(path, text, mode, group);
    if (r < 0) {
        (void) log_error_errno(r, "Cannot write %s: %m", path);
        return EX_CANTCREAT;
    }
    return EX_OK;
}

static void configuration_text(const Setup *s, Buf *ret) {
    buf_puts(ret, "# Settings of pgmill, see pgmill.conf(5). Written by \"pgmill setup\".\n[Database]\n");
    if (s->url_given)
        buf_printf(ret, "Url=%s\n", s->url);
    else
        buf_puts(ret, "# Database pgmill of the PostgreSQL on this host, as the user who runs the service.\n"
                      "#Url=dbname=pgmill\n");
}

static int on_entry(void *userdata, _unused_ unsigned line, _unused_ const char *section,
    _unused_ const char *key, const char *value) {
    return string_replace(userdata, value);
}

/* Before anything is done: a line of the file has its limits, and a ';' after a blank begins a comment. */
int setup_configuration_check(const Setup *s) {
    _cleanup_(buf_done) Buf text = {};
    _cleanup_(freep) char *back = NULL;
    unsigned line;

    if (!s->url_given)
        return EX_OK;
    configuration_text(s, &text);
    int r = buf_error(&text);
    if (r >= 0)
        r = ini_read_text(text.data, text.len, on_entry, &back, &line);
    if (r == -ENOMEM)
        return EX_OSERR;
    if (r < 0 || !back || !streq(back, s->url)) {
        log_error("--url: the configuration file cannot hold it: at most 190 bytes in one line, no blanks "
                  "around it "
                  "and no ';' after a blank; the rest can stand in a file that service= names, see libpq's "
                  "documentation");
        return EX_USAGE;
    }
    return EX_OK;
}

int setup_configuration(const Setup *s) {
    _cleanup_(buf_done) Buf text = {};

    if (access(CONFIG_FILE_DEFAULT, F_OK) == 0) {
        setup_say(CONFIG_FILE_DEFAULT, "was there, left alone");
        return EX_OK;
    }
    if (s->dry_run) {
        setup_say(CONFIG_FILE_DEFAULT, "would be written");
        return EX_OK;
    }
    configuration_text(s, &text);
    /* The URL may hold a password. */
    int status = file_write("/etc/pgmill", CONFIG_FILE_DEFAULT, &text, 0640, getpwnam(SERVICE_USER)->pw_gid);
    if (status != EX_OK)
        return status;
    setup_say(CONFIG_FILE_DEFAULT, "written");
    return EX_OK;
}

int setup_network(const Setup *s) {
    _cleanup_(buf_done) Buf text = {};

    if (s->workers == 0)
        return EX_OK;
    if (access(DROP_IN_FILE, F_OK) == 0) {
        setup_say(DROP_IN_FILE, "was there, left alone");
        return EX_OK;
    }
    if (s->dry_run) {
        setup_say(DROP_IN_FILE, "would be written");
        return EX_OK;
    }
    buf_puts(&text,
        "# The database is on another host. Written by \"pgmill setup\".\n[Service]\nIPAddressDeny=\n");
    int status = file_write(DROP_IN_FOLDER, DROP_IN_FILE, &text, 0644, 0);
    if (status != EX_OK)
        return status;
    setup_say(DROP_IN_FILE, "written: workers may reach other hosts, and so may their tasks");
    (void) systemctl((const char *[]){ SYSTEMCTL, "daemon-reload", NULL }, true);
    return EX_OK;
}

/* ---- units ---- */

static int unit_failed(const char *unit, const char *verb, int r) {
    if (r == -ETIME)
        log_error("%s is not ready after %d s and goes on trying; \"systemctl list-jobs\", \"systemctl "
                  "status %s\" and "
                  "\"journalctl -u %s\" say what it waits for",
            unit, START_LIMIT_SEC, unit, unit);
    else if (r < 0)
        (void) log_error_errno(r, "Cannot run " SYSTEMCTL ": %m");
    else
        log_error(
            "systemctl %s %s failed, as it says above; \"journalctl -u %s\" may say more", verb, unit, unit);
    return r < 0 && r != -ETIME ? EX_OSERR : EX_TEMPFAIL;
}

static int unit_do(const char *verb, const char *unit) {
    /* Nobody waits for the tasks that a worker waits for. */
    const char *how = streq(verb, "restart") && strstr(unit, "-worker@") ? "--no-block" : NULL;
    const char *quiet = streq(verb, "enable") ? "--quiet" : "--no-pager"; /* it would tell of each link */
    int r = systemctl((const char *[]){ SYSTEMCTL, verb, quiet, unit, how, NULL }, true);
    return r == 0 ? EX_OK : unit_failed(unit, verb, r);
}

/* Does it run with what files of this host said before they were changed? */
static bool unit_is_stale(const char *unit) {
    static const char *const files[] = { CONFIG_FILE_DEFAULT, CREDENTIAL_STORE "/pgmill.database",
        DROP_IN_FILE };
    uint64_t begun = 0;
    struct stat st;

    if (!strstr(unit, ".service") || service_unit_begun(unit, &begun) < 0 || begun == 0)
        return false;
    for (size_t i = 0; i < ELEMENTS(files); i++)
        if (stat(files[i], &st) >= 0 &&
            (uint64_t) st.st_mtim.tv_sec * USEC_PER_SEC + (uint64_t) st.st_mtim.tv_nsec / NSEC_PER_USEC >
                begun)
            return true;
    return false;
}

int setup_stale_visit(int (*visit)(const char *unit, void *userdata), void *userdata) {
    static const char *const patterns[] = { "pgmill-api*.service", "pgmill-worker@*.service" };
    static const char *const states[] = { "active", "activating" };
    _cleanup_(buf_done) Buf names = {};
    char *state = NULL;
    int r = 0;

    for (size_t i = 0; i < ELEMENTS(patterns) * ELEMENTS(states) && r >= 0; i++) {
        r = service_units(patterns[i / ELEMENTS(states)], states[i % ELEMENTS(states)], &names);
        buf_puts(&names, ", ");
    }
    if (r >= 0)
        r = buf_error(&names);
    if (r < 0)
        return r;
    char *unit = strtok_r(names.data, ", ", &state);
    for (; unit && r == 0; unit = strtok_r(NULL, ", ", &state))
        if (unit_is_stale(unit))
            r = visit(unit, userdata);
    return r;
}

static int unit_bring_up(const Setup *s, const char *unit) {
    bool enabled = unit_is("is-enabled", unit), active = unit_is("is-active", unit);
    int status = EX_OK;

    if (s->dry_run) {
        if (enabled && active)
            setup_say(unit, "is enabled and active");
        else
            setup_say(unit, "would be %s", enabled ? "started" : active ? "enabled" : "enabled and started");
        return EX_OK;
    }
    if (!enabled)
        status = unit_do("enable", unit);
    if (status == EX_OK && !active)
        status = unit_do("start", unit);
    if (status == EX_OK)
        setup_say(unit, "%s, %s", enabled ? "was enabled" : "enabled", active ? "was active" : "started");
    return status;
}

/* Several on one port are their owner's choice; the one's socket would end theirs. */
static bool has_several_apis(void) {
    _cleanup_(buf_done) Buf names = {};

    return service_units("pgmill-api@*.socket", "active", &names) > 0;
}

static int restart_stale(const char *unit, void *userdata) {
    const Setup *s = userdata;
    int status = s->dry_run ? EX_OK : unit_do("restart", unit);

    if (status == EX_OK)
        setup_say(unit, s->dry_run ? "would be restarted" : "restarted, since its settings are newer");
    return status;
}

int setup_units(const Setup *s) {
    int status = EX_OK;

    bool several = has_several_apis();
    for (size_t i = 0; i < UNITS_FIXED && status == EX_OK; i++)
        if (several && strstr(units_fixed[i], "-api."))
            setup_say(units_fixed[i], "left alone, since there are pgmill-api@ units");
        else
            status = unit_bring_up(s, units_fixed[i]);
    for (unsigned i = 1; i <= s->workers && status == EX_OK; i++) {
        char unit[UNIT_SIZE];
        (void) snprintf(unit, sizeof(unit), "pgmill-worker@%u.service", i);
        status = unit_bring_up(s, unit);
    }
    if (status == EX_OK)
        status = setup_stale_visit(restart_stale, (void *) s);
    return status < 0 ? EX_OSERR : status;
}
