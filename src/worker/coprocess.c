/* SPDX-License-Identifier: MIT */
/*
 * A line that is no answer cannot be believed about anything, so it ends the co-process.
 */
#include "worker/coprocess.h"

#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#include "base/log.h"
#include "base/outbox.h"
#include "base/time.h"
#include "base/timer.h"
#include "worker/spawn.h"
#include "worker/stream_line.h"

#define CHUNK            ((size_t) 64 * 1024)
#define PIECES           64                 /* lines written at once */
#define CLOSE_GRACE_USEC (5 * USEC_PER_SEC) /* from closing its pipes to its end */
#define LOOK_USEC        USEC_PER_SEC       /* between looks at what it has come to */
#define STRAYS_MAX       100                /* answers about tasks that it has not; each is logged */

struct Coprocess {
    LIST_ENTRY(Coprocess) entry;
    char *name, *path; /* the handler's, its program's */
    uint64_t kill_grace_usec;
    Recycle recycle;
    sd_event *event;
    const CoprocessEvents *events; /* NULL: it has no owner */
    void *userdata;
    CoTasks *waiting; /* not owned */

    Spawned *program;
    int input, output, error; /* our ends, non-blocking */
    sd_event_source *input_io, *output_io, *error_io, *timer, *look_timer;
    CoTasks given;
    unsigned cancels; /* of these, how many are to be asked to end */
    Outbox out;
    Buf line;    /* read and not yet ended */
    Lines lines; /* of its standard error */
    uint64_t started, taken, answered, strays;
    bool quitting;    /* nothing more is asked of it: its time runs */
    bool forced;      /* ended for the sake of one task, or of none: the others are not blamed */
    char reason[512]; /* why it is being ended, or "" */
};

static LIST_HEAD(, Coprocess) all = LIST_HEAD_INITIALIZER(all);
static void (*on_gone)(void *userdata);
static void *on_gone_userdata;

/* ---- runs ---- */

Run *cotask_free(CoTask *task) {
    Run *run = task->run;

    if (task->co && task->cancelled && !task->told)
        task->co->cancels--;
    TAILQ_REMOVE(task->list, task, entry);
    run->execution = NULL;
    free(task);
    return run;
}

static CoTask *cotask_find(Coprocess *co, Id id) {
    CoTask *task;

    TAILQ_FOREACH (task, &co->given, entry)
        if (id_equal(task->run->id, id))
            return task;
    return NULL;
}

/* ---- the process ---- */

static void input_close(Coprocess *co) {
    co->input_io = sd_event_source_disable_unref(co->input_io);
    co->input = close_fd(co->input);
}

static Coprocess *coprocess_free(Coprocess *co) {
    CoTask *next;

    for (CoTask *task = TAILQ_FIRST(&co->given); task; task = next) {
        next = TAILQ_NEXT(task, entry);
        (void) cotask_free(task);
    }
    co->program = spawn_free(co->program);
    input_close(co);
    sd_event_source_disable_unref(co->output_io);
    sd_event_source_disable_unref(co->error_io);
    sd_event_source_disable_unref(co->timer);
    sd_event_source_disable_unref(co->look_timer);
    (void) close_fd(co->output);
    (void) close_fd(co->error);
    outbox_done(&co->out);
    buf_done(&co->line);
    lines_done(&co->lines);
    LIST_REMOVE(co, entry);
    free(co->name);
    free(co->path);
    free(co);
    return NULL;
}

/* It did what no co-process may: kills it; on_ended() tells its tasks. */
static void violation(Coprocess *co, const char *format, ...) _printf_(2, 3);
static void violation(Coprocess *co, const char *format, ...) {
    va_list ap;

    if (*co->reason)
        return;
    va_start(ap, format);
    (void) vsnprintf(co->reason, sizeof(co->reason), format, ap);
    va_end(ap);
    log_error("The co-process of %s is ended: %s", co->name, co->reason);
    if (co->input_io)
        (void) sd_event_source_set_enabled(co->input_io, SD_EVENT_OFF);
    (void) sd_event_source_set_enabled(co->output_io, SD_EVENT_OFF);
    if (co->program)
        spawn_stop(co->program, false);
}

/* It did not end in time. */
static int on_timer(_unused_ sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
    Coprocess *co = userdata;

    if (!co->quitting) {
        violation(co, "it closed its standard input or output, and did not end");
        return 0;
    }
    co->forced = true;
    spawn_stop(co->program, false);
    return 0;
}

/* One that was told to end sees the end of its input behind the last whole line, and has some time from its last answer
 * on. */
static void wind_up(Coprocess *co) {
    if (co->events)
        return;
    if (outbox_empty(&co->out))
        input_close(co);
    if (TAILQ_EMPTY(&co->given) && !co->quitting) {
        co->quitting = true;
        (void) timer_start(co->timer, co->kill_grace_usec);
    }
}

void coprocess_end(Coprocess *co) {
    co->events = NULL;
    co->waiting = NULL;
    co->look_timer = sd_event_source_disable_unref(co->look_timer);
    wind_up(co);
}

/* ---- RecycleAfter= ---- */

static bool is_spent(const Coprocess *co) {
    const Recycle *r = &co->recycle;

    return co->taken >= r->tasks ||
           (r->usec != UINT64_MAX && time_now_monotonic() - co->started >= r->usec) ||
           (r->memory != UINT64_MAX && spawn_memory(co->program) >= r->memory);
}

static void retire(Coprocess *co) {
    const CoprocessEvents *events = co->events;

    coprocess_end(co);
    events->spent(co->userdata);
}

static int on_look(sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
    Coprocess *co = userdata;

    if (!is_spent(co))
        return timer_start(source, LOOK_USEC);
    retire(co);
    return 0;
}

/* ---- answers ---- */

static void answered(Coprocess *co, const StreamAnswer *a) {
    CoTask *task = cotask_find(co, a->id);

    if (!task && co->quitting)
        return;
    if (!task) {
        log_warning(
            "The co-process of %s answers about task %s, which it does not have", co->name, ID_TEXT(a->id));
        if (++co->strays == STRAYS_MAX)
            violation(co, "it answered %d times about tasks it does not have", STRAYS_MAX);
        return;
    }
    const RunVerdict v = {
        .outcome = !a->error  ? RUN_COMPLETED
                   : a->never ? RUN_FAILED
                              : RUN_RETRY,
        .result = a->result.text,
        .result_len = a->result.len,
        .error = a->error,
        .delayed = a->delay >= 0,
        .delay = a->delay,
    };
    co->answered++;
    run_judged(cotask_free(task), &v);
    wind_up(co);
}

static void line_ended(Coprocess *co, const char *line, size_t len) {
    StreamAnswer answer;
    const char *why;

    int r = stream_answer_parse(line, len, &answer, &why);
    if (r < 0) {
        violation(co, "a line of it is no answer: %s: %.*s", r == -ENOMEM ? "out of memory" : why,
            (int) MIN(len, (size_t) 80), line);
        return;
    }
    answered(co, &answer);
    stream_answer_done(&answer);
}

/* One chunk. 1: there may be more; 0: nothing now; -EPIPE: the end. */
static int read_chunk(Coprocess *co) {
    char *space = co->output >= 0 ? buf_reserve(&co->line, CHUNK) : NULL;
    ssize_t n = space ? read(co->output, space, CHUNK) : -1;
    size_t from = co->line.len, begin = 0;

    if (!space || n < 0)
        return space && (errno == EAGAIN || errno == EINTR) ? 0 : -EPIPE;
    if (n == 0)
        return -EPIPE;
    buf_grew(&co->line, (size_t) n);
    for (char *end; !*co->reason && (end = memchr(co->line.data + from, '\n', co->line.len - from));) {
        line_ended(co, co->line.data + begin, (size_t) (end - co->line.data) - begin);
        begin = from = (size_t) (end - co->line.data) + 1;
    }
    memmove(co->line.data, co->line.data + begin, co->line.len - begin + 1);
    co->line.len -= begin;
    if (co->line.len > STREAM_LINE_MAX)
        violation(co, "a line of it is over %zu bytes", STREAM_LINE_MAX);
    return *co->reason ? -EPIPE : 1;
}

static int on_output(
    _unused_ sd_event_source *source, _unused_ int fd, _unused_ uint32_t revents, void *userdata) {
    Coprocess *co = userdata;

    if (read_chunk(co) != -EPIPE)
        return 0;
    (void) sd_event_source_set_enabled(co->output_io, SD_EVENT_OFF); /* on_ended() reads the rest */
    return co->quitting ? 0 : timer_start(co->timer, CLOSE_GRACE_USEC);
}

/* ---- its standard error: no line of it belongs to one task ---- */

static bool read_error(Coprocess *co) {
    const LogTask task = { .name = co->name };
    char chunk[16 * 1024];

    ssize_t n = co->error >= 0 ? read(co->error, chunk, sizeof(chunk)) : 0;
    if (n > 0)
        lines_add(&co->lines, &task, chunk, (size_t) n);
    else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        co->error_io = sd_event_source_disable_unref(co->error_io);
        co->error = close_fd(co->error);
    }
    return n > 0;
}

static int on_error(
    _unused_ sd_event_source *source, _unused_ int fd, _unused_ uint32_t revents, void *userdata) {
    (void) read_error(userdata);
    return 0;
}

/* It has ended: what stands in the pipe is read, and half a line is a line. */
static void end_error(Coprocess *co) {
    const LogTask task = { .name = co->name };

    for (int i = 0; i < 64 && read_error(co); i++)
        ;
    lines_end(&co->lines, &task);
}

/* ---- tasks ---- */

static int give_cancels(Coprocess *co) {
    CoTask *task;
    int r = 0;

    TAILQ_FOREACH (task, &co->given, entry) {
        if (r < 0 || co->cancels == 0 || outbox_full(&co->out))
            break;
        if (!task->cancelled || task->told)
            continue;
        _cleanup_(buf_done) Buf line = {};
        stream_write_cancel(&line, task->run->id_text);
        task->told = true;
        co->cancels--;
        r = outbox_put(&co->out, &line);
    }
    return r;
}

/* Tasks become lines no sooner than there is room for them, so that what waits is held once. */
static int give_tasks(Coprocess *co) {
    CoTask *task;
    int r = 0;

    while (r >= 0 && co->waiting && !outbox_full(&co->out) && (task = TAILQ_FIRST(co->waiting))) {
        _cleanup_(buf_done) Buf line = {};
        Run *run = task->run;
        r = stream_write_task(&line, run->id_text, run->name, run->queue, run->attempt, &run->payload);
        if (r >= 0)
            r = outbox_put(&co->out, &line);
        if (r < 0)
            return r;
        payload_done(&run->payload);
        TAILQ_REMOVE(task->list, task, entry);
        task->list = &co->given;
        task->co = co;
        TAILQ_INSERT_TAIL(task->list, task, entry);
        if (++co->taken >= co->recycle.tasks)
            retire(co);
    }
    return r;
}

static int on_input(_unused_ sd_event_source *source, int fd, _unused_ uint32_t revents, void *userdata) {
    struct iovec pieces[PIECES];
    Coprocess *co = userdata;

    int r = give_cancels(co);
    if (r >= 0)
        r = give_tasks(co);
    if (r < 0) {
        violation(co, "out of memory");
        return 0;
    }
    size_t n = outbox_pieces(&co->out, pieces, PIECES);
    ssize_t written = n > 0 ? writev(fd, pieces, (int) n) : 0;
    if (written < 0 && errno != EAGAIN && errno != EINTR) {
        input_close(co); /* it has closed its own, and should be ending */
        return co->quitting ? 0 : timer_start(co->timer, CLOSE_GRACE_USEC);
    }
    outbox_taken(&co->out, (size_t) MAX(written, (ssize_t) 0));
    if (!outbox_empty(&co->out))
        return 0;
    wind_up(co);
    if (co->input_io && TAILQ_EMPTY(co->waiting) && co->cancels == 0)
        return sd_event_source_set_enabled(co->input_io, SD_EVENT_OFF);
    return 0;
}

void coprocess_pump(Coprocess *co) {
    if (co->input_io && !co->forced && !*co->reason)
        (void) sd_event_source_set_enabled(co->input_io, SD_EVENT_ON);
}

void coprocess_cancel(CoTask *task) {
    if (task->cancelled)
        return;
    task->cancelled = true;
    task->co->cancels++;
    coprocess_pump(task->co);
}

void coprocess_kill(CoTask *task) {
    Coprocess *co = task->co;

    task->guilty = co->forced = true;
    if (co->input_io)
        (void) sd_event_source_set_enabled(co->input_io, SD_EVENT_OFF);
    spawn_stop(co->program, false);
}

/* ---- start and end ---- */

static bool ended_well(const Coprocess *co, const SpawnEnd *end) {
    return end->start_error == 0 && end->code == CLD_EXITED && end->status == 0 && co->line.len == 0 &&
           !*co->reason && !co->forced;
}

static void describe_end(const Coprocess *co, char *text, size_t size, const SpawnEnd *end) {
    const char *half = !co->forced && co->line.len > 0 ? ", in the middle of a line" : "";

    if (*co->reason)
        (void) snprintf(text, size, "the co-process was ended: %s", co->reason);
    else if (end->start_error != 0)
        (void) snprintf(text, size, "cannot start %s: %s", co->path, strerror(end->start_error));
    else if (end->usage.oom && (end->code != CLD_EXITED || end->status != 0))
        (void) snprintf(text, size, "oom: the co-process was killed because memory ran out%s", half);
    else if (end->code == CLD_EXITED)
        (void) snprintf(text, size, "the co-process ended with exit status %d%s", end->status, half);
    else
        (void) snprintf(text, size, "the co-process was ended by signal %d (%s)%s", end->status,
            strsignal(end->status), half);
}

static void judge(Coprocess *co, const RunVerdict *v) {
    const RunVerdict unblamed = { .outcome = RUN_RETURNED };
    CoTask *next;

    for (CoTask *task = TAILQ_FIRST(&co->given); task; task = next) {
        next = TAILQ_NEXT(task, entry);
        bool blamed = !co->forced || task->guilty;
        run_judged(cotask_free(task), blamed ? v : &unblamed);
    }
}

static void on_ended(_unused_ Spawned *program, const SpawnEnd *told, void *userdata) {
    const SpawnEnd end = *told; /* goes with the program */
    Coprocess *co = userdata;
    char why[600];

    if (told->left)
        log_warning(
            "%s: the co-process ended and left processes behind, which are killed: %s", co->name, told->left);
    co->program = spawn_free(co->program);
    for (int i = 0; i < 64 && !*co->reason && read_chunk(co) > 0; i++)
        ; /* a pipe full of last answers */
    end_error(co);
    const bool well = ended_well(co, &end);
    describe_end(co, why, sizeof(why), &end);
    if (!co->forced && (end.start_error != 0 || !TAILQ_EMPTY(&co->given)))
        (void) log_full(well ? LOG_NOTICE : LOG_WARNING, 0, "%s: %s%s", co->name, why,
            well ? "; what it has not answered goes back" : "");
    /* One that ends well fails none: what it has not answered goes back, keeping its place. */
    const RunVerdict v = { .outcome = well ? RUN_DEFERRED : RUN_RETRY,
        .delayed = well,
        .delay = -1,
        .unbegun = end.start_error != 0,
        .error = why,
        .lines = &co->lines,
        .tasks_refused = end.usage.tasks_refused };
    judge(co, &v);
    const bool owned = co->events;
    if (owned)
        co->events->ended(&(CoprocessEnd){ .not_started = end.start_error != 0,
                              .useful = well && co->answered > 0,
                              .answered = co->answered > 0,
                              .verdict = &v },
            co->userdata);
    coprocess_free(co);
    if (!owned)
        on_gone(on_gone_userdata);
}

static int pipe_open(int *ours, int *theirs, bool input) {
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    *ours = fds[input ? 1 : 0];
    *theirs = fds[input ? 0 : 1];
    return fcntl(*ours, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

static int watch(Coprocess *co) {
    int r = sd_event_add_io(co->event, &co->input_io, co->input, EPOLLOUT, on_input, co);
    if (r >= 0)
        r = sd_event_add_io(co->event, &co->output_io, co->output, EPOLLIN, on_output, co);
    if (r >= 0)
        r = sd_event_add_io(co->event, &co->error_io, co->error, EPOLLIN, on_error, co);
    /* Behind the turn, as all that programs write. */
    if (r >= 0)
        r = sd_event_source_set_priority(co->output_io, SD_EVENT_PRIORITY_NORMAL + 20);
    if (r >= 0)
        r = sd_event_source_set_priority(co->error_io, SD_EVENT_PRIORITY_NORMAL + 20);
    if (r >= 0)
        r = timer_new(&co->timer, co->event, USEC_PER_MSEC, on_timer, co);
    if (r >= 0)
        r = timer_new(&co->look_timer, co->event, LOOK_USEC / 4, on_look, co);
    if (r >= 0 && (co->recycle.usec != UINT64_MAX || co->recycle.memory != UINT64_MAX))
        r = timer_start(co->look_timer, MIN(LOOK_USEC, co->recycle.usec));
    return r;
}

static int launch(Coprocess *co, const Handler *h) {
    static unsigned lives; /* of all: one that is ending may still run */
    static const SpawnEvents events = { .ended = on_ended };
    _cleanup_(freep) char *name = NULL, *variable = NULL;
    _cleanup_(closep) int input = -EBADF, output = -EBADF, error = -EBADF;

    int r = string_replace(&co->name, h->name);
    if (r >= 0)
        r = string_replace(&co->path, h->argv[0]);
    if (r >= 0)
        r = string_printf(&name, "%s.%u", co->name, lives++);
    if (r >= 0)
        r = string_printf(&variable, "PGMILL_NAME=%s", co->name);
    if (r >= 0)
        r = pipe_open(&co->input, &input, true);
    if (r >= 0)
        r = pipe_open(&co->output, &output, false);
    if (r >= 0)
        r = pipe_open(&co->error, &error, false);
    if (r >= 0)
        r = watch(co);
    const SpawnSpec spec = { .name = name,
        .argv = h->argv,
        .environment = (char *[]){ variable, NULL },
        .stdio = { input, output, error },
        .limits = &h->limits };
    return r < 0 ? r : spawn_start(&co->program, co->event, &spec, &events, co);
}

int coprocess_start(Coprocess **ret, sd_event *event, const Handler *h, CoTasks *waiting,
    const CoprocessEvents *events, void *userdata) {
    Coprocess *co = calloc(1, sizeof(Coprocess));

    if (!co)
        return -ENOMEM;
    *co = (Coprocess){ .kill_grace_usec = h->kill_grace_usec,
        .recycle = h->recycle,
        .event = event,
        .events = events,
        .userdata = userdata,
        .waiting = waiting,
        .input = -EBADF,
        .output = -EBADF,
        .error = -EBADF,
        .out = { .max = CHUNK },
        .lines = { .limit = h->log_limit },
        .started = time_now_monotonic() };
    TAILQ_INIT(&co->given);
    LIST_INSERT_HEAD(&all, co, entry);
    int r = launch(co, h);
    if (r < 0)
        coprocess_free(co);
    else
        *ret = co;
    return r;
}

/* ---- those that are ending ---- */

bool coprocess_any_ending(void) {
    Coprocess *co;

    LIST_FOREACH (co, &all, entry)
        if (!co->events)
            return true;
    return false;
}

void coprocess_on_gone(void (*gone)(void *userdata), void *userdata) {
    on_gone = gone;
    on_gone_userdata = userdata;
}

void coprocess_kill_ending(void) {
    Coprocess *co;

    LIST_FOREACH (co, &all, entry)
        if (!co->events)
            spawn_stop(co->program, false);
}

void coprocess_done(void) {
    while (!LIST_EMPTY(&all))
        coprocess_free(LIST_FIRST(&all));
}
