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

static size_t count_chars(const char *text, size_t n) {
    size_t count = 0;

    for (size_t i = 0; i < n; i++)
        count += ((unsigned char) text[i] & 0xc0) != 0x80;
    return count;
}

void payload_add(Payload *p, const char *part, size_t n, bool last) {
    if (p->file == -EBADF)
        p->file = file_new();
    int r = p->file < 0 ? p->file : file_add(p->file, part, n);
    if (r >= 0 && last)
        r = file_seal(p->file);
    p->size += n;
    p->chars += count_chars(part, n);
    p->whole = last || r < 0;
    if (r < 0) {
        (void) close_fd(p->file);
        p->file = r;
    }
}

int payload_file(Payload *p) {
    if (p->text) {
        payload_add(p, p->text, strlen(p->text), true);
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
