/* SPDX-License-Identifier: MIT */
#include "worker/child.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>

#include "base/config.h"
#include "base/service.h"
#include "worker/cgroup.h"
#include "worker/tree.h"

int child_environment(char *const *added, const char *folder, char ***ret) {
    static const char *const passed[] = { "HOME", "LOGNAME", "TZ", "USER" };
    static const char *const fixed[] = { "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
        "LANG=C.UTF-8" };
    const size_t n_added = config_list_length(added);
    size_t n = 0;
    int r = 0;

    char **list = calloc(ELEMENTS(passed) + ELEMENTS(fixed) + n_added + 3, sizeof(char *));
    if (!list)
        return -ENOMEM;
    for (size_t i = 0; i < ELEMENTS(fixed) && r >= 0; i++)
        r = string_replace(&list[n++], fixed[i]);
    for (size_t i = 0; i < ELEMENTS(passed) && r >= 0; i++)
        if (getenv(passed[i]))
            r = string_printf(&list[n++], "%s=%s", passed[i], getenv(passed[i]));
    if (r >= 0)
        r = string_printf(&list[n++], "PGMILL_DIRECTORY=%s", folder);
    if (r >= 0)
        r = string_printf(&list[n++], "TMPDIR=%s", folder);
    for (size_t i = 0; i < n_added && r >= 0; i++)
        r = string_replace(&list[n++], added[i]);
    *ret = list;
    return r;
}

void child_environment_freep(char ***list) {
    config_list_free(*list);
}

/* ---- in the child ---- */

/* The program's descriptors to 0, 1 and 2, the one for errors to 3, and nothing else. */
static bool child_descriptors(const Child *c) {
    int from[4];

    for (int i = 0; i < 4; i++) { /* out of the way of what they become */
        from[i] = fcntl(i < 3 ? c->stdio[i] : c->error_fd, F_DUPFD, 4);
        if (from[i] < 0)
            return false;
    }
    for (int i = 0; i < 4; i++)
        if (dup2(from[i], i) < 0)
            return false;
    return fcntl(3, F_SETFD, FD_CLOEXEC) >= 0 && close_range(4, ~0U, 0) >= 0;
}

_Noreturn void child_exec(const Child *c) {
    sigset_t none;

    (void) sigemptyset(&none);
    for (int number = 1; number < NSIG; number++)
        (void) signal(number, SIG_DFL); /* what was ignored would stay so */
    (void) sigprocmask(SIG_SETMASK, &none, NULL);
    service_restore_descriptors();
    (void) setsid();
    /* The worker's end is the program's end: nobody else would know of it. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != c->parent)
        _exit(EXIT_FAILURE);
    if (c->adopt)
        (void) tree_adopt();
    int error_fd = c->error_fd;
    if ((c->cgroup < 0 || cgroup_enter(c->cgroup) >= 0) && child_descriptors(c)) {
        error_fd = 3;
        if (chdir(c->folder) >= 0)
            (void) execve(c->argv[0], c->argv, c->environment);
    }
    int error = errno;
    if (write(error_fd, &error, sizeof(error)) < 0)
        _exit(EXIT_FAILURE);
    _exit(EXIT_FAILURE);
}
