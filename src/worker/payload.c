/* SPDX-License-Identifier: MIT */
#include "worker/payload.h"

#include <fcntl.h>
#include <sys/mman.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* since Linux 6.3 */
#endif

static int file_new(void) {
    const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int fd = memfd_create("pgmill-payload", flags | MFD_NOEXEC_SEAL);

    if (fd < 0 && errno == EINVAL)
        fd = memfd_create("pgmill-payload", flags);
    return fd < 0 ? -errno : fd;
}

static int file_add(int fd, const char *data, size_t n) {
    while (n > 0) {
        ssize_t written = write(fd, data, n);
        if (written < 0 && errno != EINTR)
            return -errno;
        data += MAX(written, 0);
        n -= (size_t) MAX(written, 0);
    }
    return 0;
}

static int file_seal(int fd) {
    if (lseek(fd, 0, SEEK_SET) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
        return -errno;
    return 0;
}

int payload_file(const char *text) {
    _cleanup_(closep) int fd = file_new();

    if (fd < 0)
        return fd;
    int r = file_add(fd, text, strlen(text));
    if (r >= 0)
        r = file_seal(fd);
    return r < 0 ? r : TAKE_FD(fd);
}
