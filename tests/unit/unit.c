/* SPDX-License-Identifier: MIT */
/* Memory that runs out on demand: the linker sends every call of the code under test here (--wrap). */
#include "unit.h"

bool unit_no_memory;

void *__real_malloc(size_t size);
void *__real_realloc(void *p, size_t size);
char *__real_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);

void *__wrap_malloc(size_t size);
void *__wrap_realloc(void *p, size_t size);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);

void *__wrap_malloc(size_t size) {
    return unit_no_memory ? NULL : __real_malloc(size);
}

void *__wrap_realloc(void *p, size_t size) {
    return unit_no_memory ? NULL : __real_realloc(p, size);
}

char *__wrap_strdup(const char *s) {
    return unit_no_memory ? NULL : __real_strdup(s);
}

char *__wrap_strndup(const char *s, size_t n) {
    return unit_no_memory ? NULL : __real_strndup(s, n);
}
