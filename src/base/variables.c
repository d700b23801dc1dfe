/* SPDX-License-Identifier: MIT */
#include "base/variables.h"

#include <stdio.h>

#include "base/util.h"

#define BLANKS " \t"

static bool continues(const char *line) {
    size_t n = strlen(line);

    return n > 0 && line[n - 1] == '\\';
}

static void read_line(char *line, unsigned number, VariableEntry entry, void *userdata) {
    char *name = line + strspn(line, BLANKS), *value = strchr(name, '=');

    if (!value || strchr("#;", *name))
        return;
    *value++ = '\0';
    name[strcspn(name, BLANKS)] = '\0';
    entry(userdata, number, name, value);
}

int variables_read(const char *path, VariableEntry entry, void *userdata) {
    _cleanup_(freep) char *line = NULL;
    bool continued = false;
    unsigned number = 0;
    size_t size = 0;
    FILE *file = fopen(path, "re");

    if (!file)
        return -errno;
    while (getline(&line, &size, file) > 0) {
        number++;
        line[strcspn(line, "\r\n")] = '\0';
        bool more = continues(line);
        if (!continued)
            read_line(line, number, entry, userdata);
        continued = more;
    }
    (void) fclose(file);
    return 0;
}
