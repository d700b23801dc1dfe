/* SPDX-License-Identifier: MIT */
#include "base/ini.h"

#include <fcntl.h>
#include <ini.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/util.h"

#define FILE_MAX (64 * 1024)

typedef struct Reader {
    FILE *file;
    unsigned line, bad_line;
    IniEntry entry;
    void *userdata;
    int error;
} Reader;

/* libinih takes a line at a time, so counting here says which line an entry is from. A line longer than its
 * buffer would come in pieces, each read as a line. */
static char *read_line(char *buffer, int size, void *stream) {
    Reader *reader = stream;

    char *line = fgets(buffer, size, reader->file);
    if (!line)
        return NULL;
    reader->line++;
    if (strlen(line) == (size_t) size - 1 && line[size - 2] != '\n' && !feof(reader->file)) {
        reader->error = -EBADMSG;
        reader->bad_line = reader->line;
        return NULL;
    }
    return line;
}

static int on_entry(void *userdata, const char *section, const char *key, const char *value) {
    Reader *reader = userdata;

    if (reader->error < 0)
        return 0; /* libinih goes on to the end */
    reader->error = reader->entry(reader->userdata, reader->line, section, key, value);
    if (reader->error < 0)
        reader->bad_line = reader->line;
    return reader->error >= 0;
}

static int read_stream(Reader *reader, unsigned *ret_line) {
    int r = ini_parse_stream(read_line, reader, on_entry, reader);

    *ret_line = reader->bad_line ? reader->bad_line : r > 0 ? (unsigned) r : 0;
    if (reader->error < 0)
        return reader->error;
    return r == 0 ? 0 : r < 0 ? -ENOMEM : -EBADMSG;
}

static unsigned line_of(const char *text, const char *at) {
    unsigned line = 1;

    while ((text = memchr(text, '\n', (size_t) (at - text)))) {
        text++;
        line++;
    }
    return line;
}

int ini_read_text(const char *text, size_t len, IniEntry entry, void *userdata, unsigned *ret_line) {
    Reader reader = { .entry = entry, .userdata = userdata };

    *ret_line = 0;
    if (len > FILE_MAX)
        return -EFBIG;
    if (len == 0)
        return 0;
    const char *nul = memchr(text, '\0', len);
    if (nul) {
        *ret_line = line_of(text, nul);
        return -EBADMSG;
    }
    reader.file = fmemopen((char *) text, len, "r");
    if (!reader.file)
        return -errno;
    int r = read_stream(&reader, ret_line);
    (void) fclose(reader.file);
    return r;
}

int ini_read_file(const char *path, IniEntry entry, void *userdata, unsigned *ret_line) {
    _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    _cleanup_(buf_done) Buf text = {};
    struct stat st;

    *ret_line = 0;
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3))
        return 0; /* /dev/null is an empty file */
    if (!S_ISREG(st.st_mode))
        return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
    int r = buf_read(&text, fd, FILE_MAX);
    return r < 0 ? r : ini_read_text(text.data, text.len, entry, userdata, ret_line);
}
