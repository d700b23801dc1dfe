/* SPDX-License-Identifier: MIT */
#include "worker/folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define DEPTH_MAX 500 /* open folders at once; what is deeper stays until the service manager removes it */

static char *base; /* made with the first folder */

/* Not in /run: that has a share of the memory, and when it is full so is the host's. */
static int base_make(void) {
    const char *temporary = getenv("TMPDIR");
    _cleanup_(freep) char *path = NULL;

    int r = string_printf(&path, "%s/pgmill-XXXXXX", temporary && *temporary == '/' ? temporary : "/tmp");
    if (r < 0)
        return r;
    if (!mkdtemp(path))
        return -errno;
    base = TAKE_PTR(path);
    return 0;
}

int folder_path(const char *name, char **ret_path) {
    if (base && access(base, F_OK) < 0)
        base = (free(base), NULL); /* somebody tidied up */
    int r = base ? 0 : base_make();

    return r < 0 ? r : string_printf(ret_path, "%s/%s", base, name);
}

int folder_new(const char *name, char **ret_path) {
    _cleanup_(freep) char *path = NULL;
    int r = folder_path(name, &path);

    if (r < 0)
        return r;
    if (mkdir(path, 0700) < 0)
        return -errno;
    *ret_path = TAKE_PTR(path);
    return 0;
}

/* ---- in the child ---- */

static void remove_below(int parent, const char *name, unsigned depth) {
    if (unlinkat(parent, name, 0) >= 0 || unlinkat(parent, name, AT_REMOVEDIR) >= 0 || depth == 0)
        return;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == EACCES && fchmodat(parent, name, 0700, 0) >= 0)
        fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        (void) close_fd(fd);
        return;
    }
    (void) fchmod(fd, 0700);
    for (struct dirent *e = readdir(dir); e; e = readdir(dir))
        if (!streq(e->d_name, ".") && !streq(e->d_name, ".."))
            remove_below(fd, e->d_name, depth - 1);
    (void) closedir(dir);
    (void) unlinkat(parent, name, AT_REMOVEDIR);
}

/* ---- */

static int on_removed(sd_event_source *s, _unused_ const siginfo_t *si, _unused_ void *userdata) {
    return sd_event_source_set_floating(s, false); /* the loop lets it go */
}

void folder_remove(sd_event *event, const char *path) {
    if (rmdir(path) >= 0 || errno == ENOENT)
        return;
    pid_t pid = fork();
    if (pid == 0) {
        (void) close_range(3, ~0U, 0); /* the session's lock must not outlive the worker in here */
        remove_below(AT_FDCWD, path, DEPTH_MAX);
        _exit(EXIT_SUCCESS);
    }
    /* Floating: the loop owns the source, should it end first. */
    if (pid > 0 && event && sd_event_add_child(event, NULL, pid, WEXITED, on_removed, NULL) < 0)
        (void) waitpid(pid, NULL, 0);
}

void folder_done(void) {
    if (base)
        folder_remove(NULL, base);
    base = (free(base), NULL);
}
