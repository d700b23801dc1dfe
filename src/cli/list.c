/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <sysexits.h>

#include "base/json.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/way.h"
#include "store/task.h"

#define PAGE_MAX 100U

enum { OPTION_STATUS, OPTION_QUEUE, OPTION_NAME, OPTION_LIMIT, _OPTION_MAX };

static const Option options[] = {
    [OPTION_STATUS] = { "status", "STATUS",
        "only tasks of this status, or of these with commas between them" },
    [OPTION_QUEUE] = { "queue", "NAME", "only tasks of this queue" },
    [OPTION_NAME] = { "name", "NAME", "only tasks of this name" },
    [OPTION_LIMIT] = { "limit", "N", "at most so many (default: 20)" },
    {},
};

static int filter_parse(const char *const values[], TaskFilter *ret) {
    uint64_t limit = 20;

    if (values[OPTION_STATUS]) {
        _cleanup_(buf_done) Buf statuses = {};
        _cleanup_(freep) char *bad = task_statuses_add(&statuses, values[OPTION_STATUS]);
        if (bad) {
            log_error("--status: \"%s\" is none of " TASK_STATUS_NAMES, bad);
            return -EINVAL;
        }
        ret->statuses = values[OPTION_STATUS];
    }
    if (values[OPTION_LIMIT] && (parse_uint(values[OPTION_LIMIT], 10000, &limit) < 0 || limit == 0)) {
        log_error("--limit: \"%s\" is not a number from 1 to 10000", values[OPTION_LIMIT]);
        return -EINVAL;
    }
    ret->queue = values[OPTION_QUEUE];
    ret->name = values[OPTION_NAME];
    ret->limit = (unsigned) limit;
    return 0;
}

/* One page, printed; how many it had, and where the next one begins, NULL: it was the last. */
static int page_print(const char *text, size_t *ret_n, char **ret_next) {
    JsonSpan list, object, next;
    size_t position = 0;

    int r = json_find(text, "tasks", &list);
    if (r >= 0)
        r = json_find(text, "next", &next);
    for (*ret_n = 0; r >= 0 && json_next_element(&list, &position, &object) > 0; (*ret_n)++)
        printf("%.*s\n", (int) object.len, object.text);
    return r < 0 || next.type != JSON_STRING ? r : json_string(&next, ret_next);
}

static int list_by_api(Way *way, const TaskFilter *filter) {
    _cleanup_(freep) char *cursor = NULL;
    unsigned left = filter->limit;

    do {
        _cleanup_(buf_done) Buf path = {}, answer = {};
        char limit[16];
        size_t n;
        (void) snprintf(limit, sizeof(limit), "%u", MIN(left, PAGE_MAX));
        buf_puts(&path, "/api/tasks/");
        way_parameter(&path, "limit", limit);
        way_parameter(&path, "status", filter->statuses);
        way_parameter(&path, "queue", filter->queue);
        way_parameter(&path, "name", filter->name);
        way_parameter(&path, "cursor", cursor);
        if (buf_error(&path) < 0)
            return EX_OSERR;
        int status = way_ask(way, "list tasks", "GET", path.data, NULL, NULL, &answer);
        if (status != EX_OK)
            return status;
        free(TAKE_PTR(cursor));
        int r = page_print(answer.data, &n, &cursor);
        if (r < 0)
            return cli_failed("list tasks", r, NULL);
        left -= MIN((unsigned) n, left);
    } while (cursor && left > 0);
    return EX_OK;
}

static int list_run(int argc, char *argv[]) {
    _cleanup_(config_done) Config config = {};
    _cleanup_(db_rows_freep) DbRows *rows = NULL;
    _cleanup_(way_done) Way way = {};
    const char *values[_OPTION_MAX];
    char **args, *error = NULL;
    TaskFilter filter = {};

    int r = config_load_with(&config, "", options, values, argc, argv, &args);
    if (r < 0)
        return config_exit_status(r);
    if (args[0]) {
        log_error("\"pgmill list\" takes options only");
        return EX_USAGE;
    }
    if (filter_parse(values, &filter) < 0)
        return EX_USAGE;
    int status = way_find(&way, &config);
    if (status != EX_OK)
        return status;
    if (!way.db)
        return list_by_api(&way, &filter);
    r = task_list(way.db, &filter, &rows, &error);
    if (r < 0)
        return cli_failed("list tasks", r, error);
    for (size_t i = 0; i < db_rows(rows) && status == EX_OK; i++)
        status = cli_print_task(rows, i, 0);
    return status;
}

const Verb list_verb = {
    .name = "list",
    .run = list_run,
    .arguments = "[OPTION…]",
    .summary = "List tasks, newest first, one line of JSON each",
    .section = "",
    .options = options,
};
