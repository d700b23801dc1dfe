/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <sysexits.h>

#include "base/json.h"
#include "base/log.h"
#include "base/service.h"
#include "base/time.h"
#include "cli/cli.h"
#include "cli/way.h"
#include "store/task.h"

#define PAYLOAD_MAX (1024 * 1024)
#define RETRY_SEC   5

enum {
    OPTION_PAYLOAD,
    OPTION_QUEUE,
    OPTION_PRIORITY,
    OPTION_AT,
    OPTION_ATTEMPTS,
    OPTION_TIMEOUT,
    OPTION_TAGS,
    OPTION_UNIQUE,
    OPTION_SCHEDULE,
    _OPTION_MAX,
};

static const Option options[] = {
    [OPTION_PAYLOAD] = { "payload", "JSON",
        "what the handler gets; \"-\" reads standard input (default: null)" },
    [OPTION_QUEUE] = { "queue", "NAME", "the queue (default: default)" },
    [OPTION_PRIORITY] = { "priority", "LEVEL", "LOW, MEDIUM, HIGH or CRITICAL (default: MEDIUM)" },
    [OPTION_AT] = { "at", "TIME", "not before this time, RFC 3339; without an offset it is UTC" },
    [OPTION_ATTEMPTS] = { "max-attempts", "N", "at most so many attempts (default: the handler's)" },
    [OPTION_TIMEOUT] = { "timeout", "TIME", "how long an attempt may take (default: the handler's)" },
    [OPTION_TAGS] = { "tags", "TAG,…", "labels to find the task by" },
    [OPTION_UNIQUE] = { "unique-key", "KEY", "not while an unfinished task of the queue has it" },
    [OPTION_SCHEDULE] = { "schedule", "NAME",
        "from a timer unit: once for each of its ticks, on however many hosts it runs" },
    {},
};

static int read_stdin(char **ret) {
    _cleanup_(buf_done) Buf b = {};

    int r = buf_read(&b, STDIN_FILENO, PAYLOAD_MAX);
    if (r < 0)
        return r;
    if (strlen(b.data) != b.len)
        return -EBADMSG;
    *ret = TAKE_PTR(b.data);
    return 0;
}

static int payload_parse(const char *value, char **ret) {
    const char *why;
    size_t offset;
    int r;

    if (value && streq(value, "-"))
        r = read_stdin(ret);
    else
        r = string_replace(ret, value ? value : "null");
    if (r == -EBADMSG) {
        log_error("--payload: standard input holds a NUL byte, which no JSON text does");
        return -EINVAL;
    }
    if (r < 0 && r != -EFBIG)
        return log_error_errno(r, "--payload: %m");
    if (r == -EFBIG || strlen(*ret) > PAYLOAD_MAX) {
        log_error("--payload: more than 1 MiB");
        return -EINVAL;
    }
    r = json_check(*ret, strlen(*ret), NULL, &offset, &why);
    if (r < 0) {
        log_error("--payload: not JSON, at byte %zu: %s", offset, why);
        return -EINVAL;
    }
    if (json_check_jsonb(*ret, strlen(*ret), &why) < 0) {
        log_error("--payload: cannot be stored as jsonb: %s", why);
        return -EINVAL;
    }
    return 0;
}

/* One row an option whose value is a plain text with a rule. */
static int label_parse(const char *option, const char *value, char **ret) {
    if (!task_label_valid(value)) {
        log_error("%s: \"%s\" is no name: " TASK_LABEL_RULE, option, value);
        return -EINVAL;
    }
    return string_replace(ret, value);
}

static int time_option_parse(const char *value, char **ret) {
    char text[TIME_TEXT_SIZE];
    int64_t usec;

    if (time_parse(value, &usec) < 0) {
        log_error("--at: \"%s\" is no time; write it like 2027-01-31T08:00:00+01:00", value);
        return -EINVAL;
    }
    return string_replace(ret, time_format(usec, text));
}

static int numbers_parse(const char *attempts, const char *timeout, TaskNew *t) {
    uint64_t n;

    if (attempts) {
        if (parse_uint(attempts, TASK_ATTEMPTS_MAX, &n) < 0 || n == 0) {
            log_error("--max-attempts: \"%s\" is not a number from 1 to %d", attempts, TASK_ATTEMPTS_MAX);
            return -EINVAL;
        }
        t->max_attempts = (int) n;
    }
    if (timeout) {
        if (time_parse_span(timeout, &n) < 0 || n == 0 || (double) n > TASK_TIMEOUT_MAX * 1e6) {
            log_error("--timeout: \"%s\" is no span of time; write it like 90s or 10min", timeout);
            return -EINVAL;
        }
        t->timeout = (double) n / 1e6;
    }
    return 0;
}

static int tags_parse(const char *value, char ***ret) {
    _cleanup_(freep) char *copy = strdup(value);
    char *state = NULL;
    size_t n = 0;

    *ret = calloc(TASK_TAGS_MAX + 1, sizeof(char *));
    if (!copy || !*ret)
        return -ENOMEM;
    for (char *tag = strtok_r(copy, ",", &state); tag; tag = strtok_r(NULL, ",", &state)) {
        if (n == TASK_TAGS_MAX || strlen(tag) > TASK_TAG_MAX || !utf8_valid(tag, strlen(tag))) {
            log_error("--tags: at most %d tags of at most %d bytes", TASK_TAGS_MAX, TASK_TAG_MAX);
            return -EINVAL;
        }
        (*ret)[n] = strdup(tag);
        if (!(*ret)[n++])
            return -ENOMEM;
    }
    return 0;
}

static int task_parse(const char *name, const char *const values[], TaskNew *t) {
    int r = label_parse("NAME", name, &t->name);

    t->id = id_new();
    t->priority = TASK_PRIORITY_MEDIUM;
    if (r >= 0)
        r = payload_parse(values[OPTION_PAYLOAD], &t->payload);
    if (r >= 0 && values[OPTION_QUEUE])
        r = label_parse("--queue", values[OPTION_QUEUE], &t->queue);
    if (r >= 0 && values[OPTION_PRIORITY]) {
        t->priority = task_priority_from_string(values[OPTION_PRIORITY]);
        if (t->priority < 0) {
            log_error("--priority: \"%s\" is none of LOW, MEDIUM, HIGH, CRITICAL", values[OPTION_PRIORITY]);
            return -EINVAL;
        }
    }
    if (r >= 0 && values[OPTION_AT])
        r = time_option_parse(values[OPTION_AT], &t->scheduled_at);
    if (r >= 0)
        r = numbers_parse(values[OPTION_ATTEMPTS], values[OPTION_TIMEOUT], t);
    if (r >= 0 && values[OPTION_TAGS])
        r = tags_parse(values[OPTION_TAGS], &t->tags);
    if (r >= 0 && values[OPTION_UNIQUE])
        r = string_replace(&t->unique_key, values[OPTION_UNIQUE]);
    return r;
}

/* ret->at is 0 when no timer started this: then it is submitted like any other. */
static int tick_find(const char *schedule, TimerTick *ret) {
    if (!schedule)
        return EX_OK;
    if (!task_label_valid(schedule)) {
        log_error("--schedule: \"%s\" is no name: " TASK_LABEL_RULE, schedule);
        return EX_USAGE;
    }
    int r = service_timer_tick(ret);
    if (r == -ENXIO)
        return EX_OK;
    if (r < 0) {
        (void) log_error_errno(r, "Cannot ask systemd for the tick of %s: %m", getenv("TRIGGER_UNIT"));
        return EX_UNAVAILABLE;
    }
    return EX_OK;
}

/* A host that was off makes up for ticks that no other host has submitted. */
static int submit_tick(Db *db, const TaskNew *task, const char *schedule, const TimerTick *tick,
    char **ret_verdict, DbOutcome *ret_outcome, char **ret_error) {
    TaskTick t = { .schedule = schedule, .at = tick->at };
    int r;

    do {
        r = task_last_tick(db, schedule, &t.known, ret_error);
        if (r < 0)
            return r;
        r = t.known ? service_calendar_elapses(tick->calendar, t.known, t.at) : 1;
        if (r == 0)
            return string_replace(ret_verdict, "passed");
        if (r < 0)
            (void) log_warning_errno(
                r, "Cannot ask systemd-analyze whether another host has submitted this tick: %m");
        r = task_submit_tick(db, task, &t, ret_verdict, ret_outcome, ret_error);
    } while (r >= 0 && streq(*ret_verdict, "moved"));
    return r;
}

/* It is stored all the same, so nothing that fails here is an error. */
static void warn(Db *db, const TaskNew *task) {
    _cleanup_(db_rows_freep) DbRows *rows = NULL;
    char *error = NULL;

    if (task_warning(db, task, &rows, &error) >= 0 && db_rows(rows) > 0)
        log_warning("%s", db_value(rows, 0, 0));
    free(error);
}

static int submit(Db *db, const TaskNew *task, const char *schedule, const TimerTick *tick) {
    _cleanup_(freep) char *verdict = NULL;
    char *error = NULL;
    DbOutcome outcome = DB_OK;
    int r;

    if (tick->at)
        r = submit_tick(db, task, schedule, tick, &verdict, &outcome, &error);
    else
        r = task_submit(db, task, &outcome, &error);
    if (outcome == DB_CONFLICT || (r >= 0 && verdict && streq(verdict, "taken"))) {
        log_notice(
            "An unfinished task of the queue has the key \"%s\"", task->unique_key ? task->unique_key : "");
        free(error);
        return tick->at ? EX_OK : EX_TEMPFAIL;
    }
    if (r < 0)
        return cli_failed("submit the task", outcome == DB_INVALID ? -EBADMSG : r, error);
    if (verdict && streq(verdict, "passed"))
        log_info("The tick was submitted before, or has passed");
    else
        (void) puts(ID_TEXT(task->id));
    warn(db, task);
    return EX_OK;
}

static void member_add(Buf *b, const char *name, const char *text) {
    if (!text)
        return;
    buf_printf(b, ", \"%s\": ", name);
    json_write_string(b, text, strlen(text));
}

static int submit_by_api(Way *way, const TaskNew *t) {
    _cleanup_(buf_done) Buf body = {}, answer = {};
    _cleanup_(freep) char *id = NULL, *warning = NULL;
    JsonSpan value;

    buf_printf(&body, "{\"payload\": %s", t->payload);
    member_add(&body, "name", t->name);
    member_add(&body, "queue", t->queue);
    member_add(&body, "priority", task_priority_to_string(t->priority));
    member_add(&body, "scheduled_at", t->scheduled_at);
    member_add(&body, "unique_key", t->unique_key);
    if (t->max_attempts > 0)
        buf_printf(&body, ", \"max_attempts\": %d", t->max_attempts);
    if (t->timeout > 0)
        buf_printf(&body, ", \"timeout\": %.6f", t->timeout);
    buf_puts(&body, ", \"tags\": [");
    for (char *const *tag = t->tags; tag && *tag; tag++) {
        buf_puts(&body, tag == t->tags ? "" : ", ");
        json_write_string(&body, *tag, strlen(*tag));
    }
    buf_puts(&body, "]}");
    if (buf_error(&body) < 0)
        return EX_OSERR;
    int status = way_ask(way, "submit the task", "POST", "/api/tasks/", &body, NULL, &answer);
    if (status != EX_OK)
        return status;
    int r = json_find(answer.data, "id", &value);
    if (r >= 0)
        r = json_string(&value, &id);
    if (r < 0)
        return cli_failed("read the API's answer", r, NULL);
    (void) puts(id);
    if (json_find(answer.data, "warning", &value) >= 0 && json_string(&value, &warning) >= 0)
        log_warning("%s", warning);
    return EX_OK;
}

static int submit_run(int argc, char *argv[]) {
    _cleanup_(config_done) Config config = {};
    _cleanup_(task_new_freep) TaskNew *task = calloc(1, sizeof(TaskNew));
    _cleanup_(timer_tick_done) TimerTick tick = {};
    const char *values[_OPTION_MAX];
    char **args;

    if (!task)
        return EX_OSERR;
    int r = config_load_with(&config, "", options, values, argc, argv, &args);
    if (r < 0)
        return config_exit_status(r);
    if (!args[0] || args[1]) {
        log_error("\"pgmill submit\" takes one argument, the name of the task");
        return EX_USAGE;
    }
    r = task_parse(args[0], values, task);
    if (r < 0)
        return config_exit_status(r);
    int status = tick_find(values[OPTION_SCHEDULE], &tick);
    if (status != EX_OK)
        return status;
    for (;;) {
        _cleanup_(way_done) Way way = {};
        status = way_find(&way, &config);
        if (status == EX_OK && way.db)
            status = submit(way.db, task, values[OPTION_SCHEDULE], &tick);
        else if (status == EX_OK && tick.at) /* the API knows no ticks */
            status = cli_failed("connect to the database", -ENOTCONN, TAKE_PTR(way.no_db));
        else if (status == EX_OK)
            status = submit_by_api(&way, task);
        if (status != EX_UNAVAILABLE || !tick.at)
            return status;
        (void) sleep(RETRY_SEC); /* a tick is not lost while the database is away */
    }
}

const Verb submit_verb = {
    .name = "submit",
    .run = submit_run,
    .arguments = "[OPTION…] NAME",
    .summary = "Submit a task and print its id",
    .section = "",
    .options = options,
};
