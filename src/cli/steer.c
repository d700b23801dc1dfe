/* SPDX-License-Identifier: MIT */
/*
 * pause, resume, cancel, retry: what REST does by the same names. Of several tasks all are asked for first, then
 * those are waited for whose worker has to act, so that they stop together.
 */
#include <stdio.h>
#include <sysexits.h>
#include <time.h>

#include "base/json.h"
#include "base/log.h"
#include "base/time.h"
#include "cli/cli.h"
#include "cli/way.h"
#include "store/task.h"

#define WAIT_USEC     (2 * USEC_PER_SEC)
#define WAIT_MAX_USEC (86400 * USEC_PER_SEC)
#define LOOK_USEC     (20 * USEC_PER_MSEC)

enum { OPTION_JSON, OPTION_WAIT, _OPTION_MAX };

static const Option options[] = {
    [OPTION_JSON] = { "json", NULL, "print the task, one line of JSON each" },
    [OPTION_WAIT] = { "wait", "TIME", "at most so long for a worker to act (default: 2s)" },
    {},
};

typedef struct Steer {
    const char *name;
    TaskVerb verb;
    TaskGoal goal; /* when a worker has to act */
} Steer;

static const Steer steers[] = {
    { "pause", TASK_PAUSE, TASK_GOAL_PAUSED },
    { "resume", TASK_RESUME, TASK_GOAL_RESUMED },
    { "cancel", TASK_CANCEL, TASK_GOAL_END },
    { "retry", TASK_RETRY, TASK_GOAL_END },
};

/* What is said for each verdict that is no. */
static const struct {
    const char *verdict, *why;
    int status;
} refusals[] = {
    { "ended", "it has ended", EX_DATAERR },
    { "running", "it runs", EX_TEMPFAIL },
    { "taken", "another unfinished task has its unique key", EX_TEMPFAIL },
};

/* One task of the command line. */
typedef struct Target {
    const char *text; /* of its id */
    Id id;
    DbRows *rows;   /* as it was read last; NULL: nothing to print */
    unsigned first; /* column of it */
    bool waiting;   /* its worker has yet to act */
} Target;

static int refused(const Steer *steer, const Target *t, const char *why, int status) {
    log_error("Cannot %s task %s: %s", steer->name, t->text, why);
    return status;
}

static int ask(Db *db, const Steer *steer, Target *t) {
    DbOutcome outcome = DB_OK;
    char *error = NULL;
    int r = task_steer_wait(db, steer->verb, t->id, &t->rows, &outcome, &error);

    if (outcome == DB_LOCKED) {
        free(error);
        return refused(steer, t, "another session's open transaction holds it", EX_TEMPFAIL);
    }
    if (r < 0)
        return cli_failed(steer->name, r, error);
    const char *verdict = db_value(t->rows, 0, 0);
    t->first = 1;
    t->waiting = streq(verdict, "asked");
    if (streq(verdict, "unknown") || !task_row_value(t->rows, 0, t->first, "id")) {
        t->rows = db_rows_free(t->rows);
        return refused(steer, t, "there is no such task", EX_NOINPUT);
    }
    for (size_t i = 0; i < ELEMENTS(refusals); i++)
        if (streq(verdict, refusals[i].verdict))
            return refused(steer, t, refusals[i].why, refusals[i].status);
    return EX_OK;
}

static int look(Db *db, const Steer *steer, Target *t) {
    char *error = NULL;

    t->rows = db_rows_free(t->rows);
    t->first = 0;
    int r = task_read(db, t->id, &t->rows, &error);
    if (r < 0)
        return cli_failed("read the task", r, error);
    if (db_rows(t->rows) == 0) {
        t->rows = db_rows_free(t->rows);
        return refused(steer, t, "it is no longer there", EX_NOINPUT);
    }
    TaskReach reach = task_reach(steer->goal, task_row_value(t->rows, 0, 0, "status"),
        task_row_value(t->rows, 0, 0, "paused_at") != NULL);
    t->waiting = reach == TASK_NOT_YET;
    return reach == TASK_MISSED
               ? refused(steer, t, "its handler does not let it stand still, or it was resumed", EX_DATAERR)
               : EX_OK;
}

static int await(Db *db, const Steer *steer, Target *t, uint64_t until) {
    while (t->waiting) {
        bool late = time_now_boottime() >= until;
        int status = look(db, steer, t);
        if (status != EX_OK || !t->waiting)
            return status;
        if (late) {
            log_notice("Its worker was told to %s task %s, and has yet to do it", steer->name, t->text);
            return EX_TEMPFAIL;
        }
        (void) nanosleep(&(struct timespec){ .tv_nsec = (long) (LOOK_USEC * NSEC_PER_USEC) }, NULL);
    }
    return EX_OK;
}

static int print(const Target *t, bool json) {
    if (!t->rows)
        return EX_OK;
    if (json)
        return cli_print_task(t->rows, 0, t->first);
    printf("%s  %s\n", t->text, task_row_value(t->rows, 0, t->first, "status"));
    return EX_OK;
}

/* The exit status of several: the first one that is no success. */
static void note(int *all, int status) {
    if (*all == EX_OK)
        *all = status;
}

static int steer_all(Db *db, const Steer *steer, Target targets[], size_t n, uint64_t wait_usec, bool json) {
    int status = EX_OK;

    for (size_t i = 0; i < n; i++)
        note(&status, ask(db, steer, &targets[i]));
    uint64_t until = time_now_boottime() + wait_usec;
    for (size_t i = 0; i < n; i++) {
        note(&status, await(db, steer, &targets[i], until));
        note(&status, print(&targets[i], json));
        targets[i].rows = db_rows_free(targets[i].rows);
    }
    return status;
}

/* ---- by the API, which waits for the worker itself, for a while ---- */

static int answer_status(const Buf *answer, char **ret) {
    JsonSpan value;
    int r = json_find(answer->data, "status", &value);

    return r < 0 ? r : json_string(&value, ret);
}

/* 202: its worker has yet to act. It was told, and is not told again. */
static int steer_by_api(Way *way, const Steer *steer, const Target *t, uint64_t until, bool json) {
    _cleanup_(buf_done) Buf act = {}, look = {}, what = {}, answer = {};
    _cleanup_(freep) char *now = NULL;
    int code = 0, r = 0;

    buf_printf(&look, "/api/tasks/%s", t->text);
    buf_printf(&act, "%s/%s", look.data ? look.data : "", steer->name);
    buf_printf(&what, "%s task %s", steer->name, t->text);
    if (buf_error(&look) < 0 || buf_error(&act) < 0 || buf_error(&what) < 0)
        return EX_OSERR;
    int status = way_ask(way, what.data, "PATCH", act.data, NULL, &code, &answer);
    bool waiting = code == 202;
    while (status == EX_OK && (r = answer_status(&answer, &now)) >= 0 && waiting &&
           time_now_boottime() < until) {
        waiting = task_reach(steer->goal, now, steer->goal == TASK_GOAL_PAUSED) == TASK_NOT_YET;
        if (!waiting)
            break;
        (void) nanosleep(&(struct timespec){ .tv_nsec = (long) (LOOK_USEC * NSEC_PER_USEC) }, NULL);
        free(TAKE_PTR(now));
        buf_done(&answer);
        answer = (Buf){};
        status = way_ask(way, what.data, "GET", look.data, NULL, NULL, &answer);
    }
    if (status != EX_OK)
        return status;
    if (r < 0)
        return cli_failed("read the API's answer", r, NULL);
    json ? (void) fputs(answer.data, stdout) : (void) printf("%s  %s\n", t->text, now);
    if (waiting)
        log_notice("Its worker was told to %s task %s, and has yet to do it", steer->name, t->text);
    return waiting ? EX_TEMPFAIL : EX_OK;
}

static int steer_all_by_api(
    Way *way, const Steer *steer, const Target targets[], uint64_t wait_usec, bool json) {
    uint64_t until = time_now_boottime() + wait_usec;
    int status = EX_OK;

    for (const Target *t = targets; t->text; t++)
        note(&status, steer_by_api(way, steer, t, until, json));
    return status;
}

static int targets_parse(const char *verb, char *const args[], Target targets[]) {
    if (!args[0]) {
        log_error("\"pgmill %s\" takes one argument or more, ids of tasks", verb);
        return EX_USAGE;
    }
    for (size_t i = 0; args[i]; i++) {
        targets[i].text = args[i];
        if (id_parse(args[i], &targets[i].id) < 0) {
            log_error("\"%s\" is not the id of a task", args[i]);
            return EX_USAGE;
        }
    }
    return EX_OK;
}

/* The four verbs are told apart by the name they are called by. */
static int run(int argc, char *argv[]) {
    _cleanup_(config_done) Config config = {};
    _cleanup_(freep) Target *targets = calloc((size_t) argc, sizeof(Target));
    _cleanup_(way_done) Way way = {};
    const char *values[_OPTION_MAX];
    uint64_t wait = WAIT_USEC;
    const Steer *steer = steers;
    char **args;

    if (!targets)
        return EX_OSERR;
    while (!streq(steer->name, argv[0]))
        steer++;
    int r = config_load_with(&config, "", options, values, argc, argv, &args);
    if (r < 0)
        return config_exit_status(r);
    int status = targets_parse(steer->name, args, targets);
    if (status != EX_OK)
        return status;
    if (values[OPTION_WAIT] && (time_parse_span(values[OPTION_WAIT], &wait) < 0 || wait > WAIT_MAX_USEC)) {
        log_error("--wait: \"%s\" is no span of time up to a day; write it like 30s", values[OPTION_WAIT]);
        return EX_USAGE;
    }
    status = way_find(&way, &config);
    if (status != EX_OK)
        return status;
    if (!way.db)
        return steer_all_by_api(&way, steer, targets, wait, values[OPTION_JSON]);
    return steer_all(way.db, steer, targets, config_list_length(args), wait, values[OPTION_JSON]);
}

#define ACTS "A worker that runs the task has to act: when it has not in time, the exit status is 75.\n"

#define STEER_VERB(text, what, more)                                                                 \
    {                                                                                                \
        .name = (text), .run = run, .arguments = "[OPTION…] ID…", .summary = (what), .help = (more), \
        .section = "", .options = options                                                            \
    }

const Verb pause_verb = STEER_VERB("pause", "Let tasks stand still, running ones too", ACTS);
const Verb resume_verb = STEER_VERB("resume", "Let paused tasks go on", ACTS);
const Verb cancel_verb = STEER_VERB("cancel", "End tasks for good, running ones too", ACTS);
const Verb retry_verb = STEER_VERB("retry", "Give failed or cancelled tasks one more attempt, now", NULL);
