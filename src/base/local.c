/* SPDX-License-Identifier: MIT */
#include "base/local.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define SUFFIX ".sock"

static int is_socket(const struct dirent *e) {
    const size_t n = strlen(e->d_name), suffix = strlen(SUFFIX);

    return n > suffix && streq(e->d_name + n - suffix, SUFFIX);
}

int local_workers(int (*visit)(const char *name, void *userdata), void *userdata) {
    struct dirent **list;
    int n = scandir(LOCAL_FOLDER, &list, is_socket, alphasort), r = 0;

    if (n < 0)
        return errno == ENOENT ? 0 : -errno;
    for (int i = 0; i < n; i++) {
        list[i]->d_name[strlen(list[i]->d_name) - strlen(SUFFIX)] = '\0';
        if (r >= 0 && i < LOCAL_WORKERS_MAX)
            r = visit(list[i]->d_name, userdata);
        free(list[i]);
    }
    free(list);
    return r;
}

int local_hold(const char *name) {
    const char *folder = getenv("RUNTIME_DIRECTORY");
    _cleanup_(freep) char *path = NULL;
    static int fd = -EBADF; /* for good */

    if (!folder || fd >= 0)
        return 0;
    int r = string_printf(&path, "%s/%s", folder, name);
    if (r < 0)
        return r;
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0 || fchmod(fd, 0644) < 0 || fcntl(fd, F_OFD_SETLK, &(struct flock){ .l_type = F_WRLCK }) < 0)
        return -errno;
    return 0;
}

bool local_holds(const char *name) {
    struct flock lock = { .l_type = F_RDLCK };
    _cleanup_(freep) char *path = NULL;

    if (string_printf(&path, LOCAL_ALIVE "/%s", name) < 0)
        return false;
    _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd >= 0 && fcntl(fd, F_OFD_GETLK, &lock) >= 0 && lock.l_type != F_UNLCK;
}

int local_connect(const char *name, int *ret_fd) {
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    int n = snprintf(address.sun_path, sizeof(address.sun_path), LOCAL_FOLDER "/%s" SUFFIX, name);
    if (n < 0 || (size_t) n >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    _cleanup_(closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (const struct sockaddr *) &address, sizeof(address)) < 0)
        return -errno;
    *ret_fd = TAKE_FD(fd);
    return 0;
}
