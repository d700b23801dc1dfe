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

void payload_done(Payload *p) {
    free(p->text);
    p->file = close_fd(p->file);
    *p = (Payload){ .file = -EBADF, .whole = p->whole };
}

static void add(Payload *p, const char *bytes, size_t n) {
    if (p->file == -EBADF)
        p->file = file_new();
    int r = p->file < 0 ? p->file : file_add(p->file, bytes, n);
    if (r < 0) {
        (void) close_fd(p->file);
        p->file = r;
    }
    p->size += n;
}

static void seal(Payload *p) {
    int r = p->file < 0 ? p->file : file_seal(p->file);

    p->whole = true;
    if (r < 0) {
        (void) close_fd(p->file);
        p->file = r;
    }
}

static unsigned digit(char c) {
    return (unsigned) (c <= '9' ? c - '0' : c - 'a' + 10);
}

void payload_add(Payload *p, const char *hex, size_t n, size_t all) {
    char bytes[16 * 1024];

    for (size_t i = 0; i + 1 < n;) {
        size_t count = 0;
        for (; count < sizeof(bytes) && i + 1 < n; i += 2)
            bytes[count++] = (char) (digit(hex[i]) << 4 | digit(hex[i + 1]));
        add(p, bytes, count);
    }
    if (p->size >= all)
        seal(p);
}

int payload_file(Payload *p) {
    if (p->text) {
        add(p, p->text, strlen(p->text));
        seal(p);
        p->text = (free(p->text), NULL);
    }
    return TAKE_FD(p->file);
}

int payload_write(const Payload *p, Buf *b) {
    if (p->text) {
        buf_puts(b, p->text);
        return buf_error(b);
    }
    if (p->file < 0)
        return p->file;
    char *space = buf_reserve(b, p->size);
    for (size_t done = 0; space && done < p->size;) {
        ssize_t n = pread(p->file, space + done, p->size - done, (off_t) done);
        if (n <= 0 && errno != EINTR)
            return n == 0 ? -EIO : -errno;
        done += (size_t) MAX(n, 0);
    }
    if (space)
        buf_grew(b, p->size);
    return buf_error(b);
}
