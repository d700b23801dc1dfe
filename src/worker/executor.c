/* SPDX-License-Identifier: MIT */
#include "worker/executor.h"

static const Executor *const executors[] = { &executor_oneshot, &executor_stream, &executor_sql };

const Executor *executor_find(const char *name) {
    for (size_t i = 0; i < ELEMENTS(executors); i++)
        if (streq(executors[i]->name, name))
            return executors[i];
    return NULL;
}
