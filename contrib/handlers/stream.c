/* SPDX-License-Identifier: MIT */
/* A co-process in few lines, for Mode=stream: cc -O2 -o stream stream.c. "task" is the first key of each line. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>

int main(void) {
    static const char task[] = "{\"task\": \"";
    char *line = NULL;
    size_t size = 0;

    while (getline(&line, &size, stdin) >= 0)
        if (strncmp(line, task, strlen(task)) == 0) { /* {"cancel": ID} comes too late here */
            printf("%s%.36s\", \"result\": \"done\"}\n", task, line + strlen(task));
            fflush(stdout);
        }
    return 0;
}
