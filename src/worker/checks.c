/* SPDX-License-Identifier: MIT */
/*
 * What an operator could get wrong about a host that runs tasks.
 */
#include "worker/checks.h"

#include <fcntl.h>
#include <glob.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

#include "worker/handler.h"

#define CGROUP_ROOT "/sys/fs/cgroup"

static CheckResult handlers_look(_unused_ const Check *self, const CheckContext *c, Buf *found) {
    _cleanup_(handlers_done) Handlers h = {};
    struct stat st;

    if (handlers_load(c->config->tasks, &h) < 0) {
        buf_puts(found, "out of memory");
        return CHECK_UNSEEN;
    }
    if (h.n + h.unusable == 0)
        buf_puts(found, "there is no file in any folder of TasksPath=, so this host can run nothing");
    else
        buf_printf(found, "%zu can be used", h.n);
    if (h.unusable > 0)
        buf_printf(found, ", %zu can not", h.unusable);
    CheckResult result = h.unusable > 0 ? CHECK_PROBLEM : h.n == 0 ? CHECK_WARNING : CHECK_OK;
    for (size_t i = 0; i < h.n; i++)
        if (h.list[i]->argv && access(h.list[i]->argv[0], X_OK) < 0) {
            buf_printf(
                found, "; %s: cannot run %s: %s", h.list[i]->path, h.list[i]->argv[0], strerror(errno));
            /* The services may be allowed what whoever asks is not. */
            result = MAX(result, errno == EACCES && !c->as_services ? CHECK_WARNING : CHECK_PROBLEM);
        } else if (h.list[i]->argv && stat(h.list[i]->argv[0], &st) >= 0 && st.st_mode & S_IWOTH) {
            buf_printf(found, "; %s: anybody can change %s", h.list[i]->path, h.list[i]->argv[0]);
            result = CHECK_PROBLEM;
        }
    return result;
}

/* ---- control groups ---- */

/* Blank-separated words of a small file; "" if it cannot be read. */
static void read_words(const char *path, char *ret, size_t size) {
    _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, ret, size - 1);

    ret[MAX(n, (ssize_t) 0)] = '\0';
}

static bool has_word(const char *words, const char *word) {
    size_t n = strlen(word);

    for (const char *p = words; (p = strstr(p, word)); p += n)
        if ((p == words || p[-1] == ' ') && strchr(" \n", p[n]))
            return true;
    return false;
}

static bool controllers_missing(const char *folder, Buf *found) {
    static const char *const wanted[] = { "cpu", "memory", "pids" };
    char path[4096], words[512];
    bool missing = false;

    (void) snprintf(path, sizeof(path), "%s/cgroup.controllers", folder);
    read_words(path, words, sizeof(words));
    for (size_t i = 0; i < ELEMENTS(wanted); i++)
        if (!has_word(words, wanted[i])) {
            buf_printf(found, "%s%s", missing ? ", " : "this host lacks the controllers ", wanted[i]);
            missing = true;
        }
    return missing;
}

static CheckResult cgroups_look(_unused_ const Check *self, _unused_ const CheckContext *c, Buf *found) {
    struct statfs fs;

    if (statfs(CGROUP_ROOT, &fs) < 0) {
        buf_printf(found, CGROUP_ROOT ": %s", strerror(errno));
        return CHECK_UNSEEN;
    }
    if (fs.f_type != CGROUP2_SUPER_MAGIC) {
        buf_puts(
            found, "this host has no pure cgroup v2: tasks are paused and ended by signals, without limits");
        return CHECK_WARNING;
    }
    if (controllers_missing(CGROUP_ROOT, found))
        return CHECK_WARNING;
    buf_puts(found, "version 2, with the controllers cpu, memory and pids");
    return CHECK_OK;
}

/* systemd marks a delegated group, and gives it to the unit's user. */
static bool is_delegated(const char *folder) {
    char mark[2] = "";
    struct stat st;

    return (getxattr(folder, "user.delegate", mark, 1) == 1 && *mark == '1') ||
           (stat(folder, &st) == 0 && st.st_uid != 0);
}

static CheckResult delegation_look(_unused_ const Check *self, _unused_ const CheckContext *c, Buf *found) {
    static const char *const places[] = { CGROUP_ROOT "/*/pgmill-worker@*.service",
        CGROUP_ROOT "/*/*/pgmill-worker@*.service" };
    CheckResult result = CHECK_OK;
    glob_t units = {};

    for (size_t i = 0; i < ELEMENTS(places); i++)
        (void) glob(places[i], GLOB_NOSORT | (i > 0 ? GLOB_APPEND : 0), NULL, &units);
    for (size_t i = 0; i < units.gl_pathc; i++)
        if (!is_delegated(units.gl_pathv[i])) {
            buf_printf(
                found, "%s%s", result == CHECK_OK ? "not for " : ", ", strrchr(units.gl_pathv[i], '/') + 1);
            result = CHECK_PROBLEM;
        }
    if (units.gl_pathc == 0) {
        buf_puts(found, "no pgmill-worker@ unit runs on this host");
        result = CHECK_UNSEEN;
    } else if (result == CHECK_OK)
        buf_printf(found, "%zu worker%s with a subtree of their own", (size_t) units.gl_pathc,
            PLURAL(units.gl_pathc));
    globfree(&units);
    return result;
}

const Check worker_checks[] = {
    {
        .name = "handlers",
        .look = handlers_look,
        .remedy = "\"pgmill handlers\" says what is wrong, with file and line",
    },
    {
        .name = "control groups",
        .look = cgroups_look,
        .remedy = "boot with systemd.unified_cgroup_hierarchy=1, and without cgroup_disable=",
    },
    {
        .name = "delegation",
        .look = delegation_look,
        .remedy =
            "a drop-in took Delegate=yes from the unit: systemctl cat pgmill-worker@NAME, systemctl revert",
    },
    {},
};
