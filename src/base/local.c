/* SPDX-License-Identifier: MIT */
#include "base/local.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#define SUFFIX ".sock"

int local_workers(int (*visit)(const char *name, void *userdata), void *userdata) {
    DIR *dir = opendir(LOCAL_FOLDER);
    size_t count = 0;
    int r = 0;

    if (!dir)
        return errno == ENOENT ? 0 : -errno;
    for (const struct dirent *e; r >= 0 && count < LOCAL_WORKERS_MAX && (e = readdir(dir));) {
        const size_t n = strlen(e->d_name), suffix = strlen(SUFFIX);
        char name[sizeof(e->d_name)];
        if (n <= suffix || !streq(e->d_name + n - suffix, SUFFIX))
            continue;
        (void) snprintf(name, sizeof(name), "%.*s", (int) (n - suffix), e->d_name);
        r = visit(name, userdata);
        count++;
    }
    (void) closedir(dir);
    return r;
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
