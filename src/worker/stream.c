/* SPDX-License-Identifier: MIT */
/*
 * The stream executor: a handler's long-lived co-process, to which tasks are sent as lines and which answers with
 * lines. A task waits until there is room in the pipe, then it is sent. What was sent to a co-process that dies is
 * blamed, what waited is not. A line that is no answer cannot be believed about anything, so it ends the co-process.
 */
#include "worker/stream.h"

#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/wait.h>

#include "base/log.h"
#include "base/timer.h"
#include "worker/run.h"
#include "worker/spawn.h"
#include "worker/stream_line.h"

#define CHUNK              (64 * 1024)
#define RESTART_FIRST_USEC (100 * USEC_PER_MSEC)
#define RESTART_MAX_USEC   (10 * USEC_PER_SEC)
#define CLOSE_GRACE_USEC   (5 * USEC_PER_SEC) /* from closing its pipes to its end */
#define STRAYS_MAX         100 /* answers about tasks that it has not, in one life; each is logged */

typedef struct Stream Stream;

/* A run here; its `execution`. */
typedef struct Link {
    TAILQ_ENTRY(Link) entry;
    Stream *stream;
    Run *run;
    bool sent, cancelled;
    bool guilty; /* did not end when it should, so the co-process has to */
} Link;

typedef TAILQ_HEAD(Links, Link) Links;

struct Stream {
    LIST_ENTRY(Stream) closing_entry;
    Handler *handler; /* not owned: it owns this; NULL: closing */
    char *name;       /* the handler's */
    sd_event *event;
    Spawned *program;         /* NULL: not running */
    int input, output, error; /* our ends, non-blocking */
    sd_event_source *input_io, *output_io, *error_io, *timer;
    Links waiting, sent;
    Buf out; /* to be written: whole lines, the first one perhaps begun */
    size_t written;
    Buf line;    /* read and not yet ended */
    Lines lines; /* of its standard error */
    unsigned failures, strays;
    bool forced;      /* ended for the sake of one task: the others are not blamed */
    char reason[512]; /* why it is being ended, or "" */
};

static LIST_HEAD(, Stream) closing = LIST_HEAD_INITIALIZER(closing);
static void (*on_closed)(void *userdata);
static void *on_closed_userdata;

static int stream_launch(Stream *s);

/* ---- runs ---- */

static Run *link_free(Link *link) {
    Run *run = link->run;

    TAILQ_REMOVE(link->sent ? &link->stream->sent : &link->stream->waiting, link, entry);
    run->execution = NULL;
    free(link);
    return run;
}

static void judge_all(Links *links, bool guilty_only, const RunVerdict *v) {
    Link *next;

    for (Link *link = TAILQ_FIRST(links); link; link = next) {
        next = TAILQ_NEXT(link, entry);
        const RunVerdict unblamed = { .outcome = RUN_RETURNED };
        bool guilty = !guilty_only || link->guilty;
        run_judged(link_free(link), guilty ? v : &unblamed);
    }
}

static Link *link_find(Stream *s, Id id) {
    Link *link;

    TAILQ_FOREACH (link, &s->sent, entry)
        if (id_equal(link->run->id, id))
            return link;
    return NULL;
}

/* ---- the process ---- */

static void pipes_close(Stream *s) {
    s->input_io = sd_event_source_disable_unref(s->input_io);
    s->output_io = sd_event_source_disable_unref(s->output_io);
    s->error_io = sd_event_source_disable_unref(s->error_io);
    s->input = close_fd(s->input);
    s->output = close_fd(s->output);
    s->error = close_fd(s->error);
    buf_done(&s->out);
    buf_done(&s->line);
    s->written = 0;
}

static Stream *stream_free(Stream *s) {
    s->program = spawn_free(s->program);
    pipes_close(s);
    s->timer = sd_event_source_disable_unref(s->timer);
    if (!s->handler)
        LIST_REMOVE(s, closing_entry);
    lines_done(&s->lines);
    free(s->name);
    free(s);
    return NULL;
}

/* It did what no co-process may: kills it; on_ended() tells its tasks. */
static void violation(Stream *s, const char *format, ...) _printf_(2, 3);
static void violation(Stream *s, const char *format, ...) {
    va_list ap;

    if (*s->reason)
        return;
    va_start(ap, format);
    (void) vsnprintf(s->reason, sizeof(s->reason), format, ap);
    va_end(ap);
    log_error("The co-process of %s is ended: %s", s->name, s->reason);
    (void) sd_event_source_set_enabled(s->input_io, SD_EVENT_OFF);
    (void) sd_event_source_set_enabled(s->output_io, SD_EVENT_OFF);
    if (s->program)
        spawn_stop(s->program, false);
}

/* Time is up, for what depends on its state. */
static int on_timer(_unused_ sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
    Stream *s = userdata;

    if (!s->handler)
        spawn_stop(s->program, false); /* closing, and did not end */
    else if (s->program)
        violation(s, "it closed its standard input or output, and did not end");
    else if (!TAILQ_EMPTY(&s->waiting)) {
        int r = stream_launch(s);
        if (r < 0) {
            (void) log_warning_errno(r, "Cannot start the co-process of %s now: %m", s->name);
            return timer_start(s->timer, RESTART_MAX_USEC);
        }
    }
    return 0;
}

static void restart_later(Stream *s) {
    uint64_t wait = MIN(RESTART_FIRST_USEC << MIN(s->failures, 8U), RESTART_MAX_USEC);

    s->failures++;
    if (timer_start(s->timer, wait / 2 + random_u32() % (wait / 2)) < 0)
        judge_all(&s->waiting, false, &(RunVerdict){ .outcome = RUN_RETURNED });
}

/* ---- answers ---- */

static void answered(Stream *s, const StreamAnswer *a) {
    Link *link = link_find(s, a->id);

    if (!link && !s->handler)
        return; /* closing */
    if (!link) {
        log_warning(
            "The co-process of %s answers about task %s, which it does not have", s->name, ID_TEXT(a->id));
        if (++s->strays == STRAYS_MAX)
            violation(s, "it answered %d times about tasks it does not have", STRAYS_MAX);
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
    s->failures = 0;
    run_judged(link_free(link), &v);
}

static void line_ended(Stream *s, const char *line, size_t len) {
    StreamAnswer answer;
    const char *why;

    int r = stream_answer_parse(line, len, &answer, &why);
    if (r < 0) {
        violation(s, "a line of it is no answer: %s: %.*s", r == -ENOMEM ? "out of memory" : why,
            (int) MIN(len, (size_t) 80), line);
        return;
    }
    answered(s, &answer);
    stream_answer_done(&answer);
}

/* One chunk. 1: there may be more; 0: nothing now; -EPIPE: the end. */
static int read_chunk(Stream *s) {
    char *space = s->output >= 0 ? buf_reserve(&s->line, CHUNK) : NULL;
    ssize_t n = space ? read(s->output, space, CHUNK) : -1;
    size_t from = s->line.len, begin = 0;

    if (!space || n < 0)
        return space && (errno == EAGAIN || errno == EINTR) ? 0 : -EPIPE;
    if (n == 0)
        return -EPIPE;
    buf_grew(&s->line, (size_t) n);
    for (char *end; !*s->reason && (end = memchr(s->line.data + from, '\n', s->line.len - from));) {
        line_ended(s, s->line.data + begin, (size_t) (end - s->line.data) - begin);
        begin = from = (size_t) (end - s->line.data) + 1;
    }
    memmove(s->line.data, s->line.data + begin, s->line.len - begin + 1);
    s->line.len -= begin;
    if (s->line.len > STREAM_LINE_MAX)
        violation(s, "a line of it is over %zu bytes", STREAM_LINE_MAX);
    return *s->reason ? -EPIPE : 1;
}

static int on_output(
    _unused_ sd_event_source *source, _unused_ int fd, _unused_ uint32_t revents, void *userdata) {
    Stream *s = userdata;

    if (read_chunk(s) != -EPIPE)
        return 0;
    (void) sd_event_source_set_enabled(s->output_io, SD_EVENT_OFF); /* on_ended() reads the rest */
    if (s->handler)                                                 /* a closing one may */
        (void) timer_start(s->timer, CLOSE_GRACE_USEC);
    return 0;
}

/* ---- its standard error: no line of it belongs to one task ---- */

static bool read_error(Stream *s) {
    const LogTask task = { .name = s->name };
    char chunk[16 * 1024];

    ssize_t n = s->error >= 0 ? read(s->error, chunk, sizeof(chunk)) : 0;
    if (n > 0)
        lines_add(&s->lines, &task, chunk, (size_t) n);
    else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        s->error_io = sd_event_source_disable_unref(s->error_io);
        s->error = close_fd(s->error);
    }
    return n > 0;
}

static int on_error(
    _unused_ sd_event_source *source, _unused_ int fd, _unused_ uint32_t revents, void *userdata) {
    (void) read_error(userdata);
    return 0;
}

/* It has ended: what stands in the pipe is read, and half a line is a line. */
static void end_error(Stream *s) {
    const LogTask task = { .name = s->name };

    for (int i = 0; i < 64 && read_error(s); i++)
        ;
    lines_end(&s->lines, &task);
}

/* ---- tasks ---- */

/* Tasks become lines no sooner than there is room for them, so that what waits is held once. */
static void fill(Stream *s) {
    Link *link;

    while (s->out.len - s->written < CHUNK && (link = TAILQ_FIRST(&s->waiting))) {
        const Run *run = link->run;
        stream_write_task(&s->out, run->id_text, run->name, run->queue, run->attempt, run->payload);
        if (buf_error(&s->out) < 0)
            return;
        TAILQ_REMOVE(&s->waiting, link, entry);
        TAILQ_INSERT_TAIL(&s->sent, link, entry);
        link->sent = true;
    }
}

static int on_input(_unused_ sd_event_source *source, int fd, _unused_ uint32_t revents, void *userdata) {
    Stream *s = userdata;

    fill(s);
    if (buf_error(&s->out) < 0) {
        violation(s, "out of memory");
        return 0;
    }
    ssize_t n = s->out.len > s->written ? write(fd, s->out.data + s->written, s->out.len - s->written) : 0;
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        (void) sd_event_source_set_enabled(s->input_io, SD_EVENT_OFF);
        (void) timer_start(s->timer, CLOSE_GRACE_USEC); /* it has closed its input, and should be ending */
        return 0;
    }
    s->written += (size_t) MAX(n, (ssize_t) 0);
    if (s->written < s->out.len)
        return 0;
    buf_clear(&s->out);
    s->written = 0;
    if (TAILQ_EMPTY(&s->waiting))
        return sd_event_source_set_enabled(s->input_io, SD_EVENT_OFF);
    return 0;
}

static void pump(Stream *s) {
    if (s->program && !s->forced && !*s->reason)
        (void) sd_event_source_set_enabled(s->input_io, SD_EVENT_ON);
}

/* ---- start and end ---- */

static void describe_end(const Stream *s, char *text, size_t size, const SpawnEnd *end) {
    if (end->start_error != 0)
        (void) snprintf(text, size, "cannot start %s: %s", s->handler->argv[0], strerror(end->start_error));
    else if (end->usage.oom && (end->code != CLD_EXITED || end->status != 0))
        (void) snprintf(text, size, "oom: the co-process was killed because memory ran out");
    else if (end->code == CLD_EXITED)
        (void) snprintf(text, size, "the co-process ended with exit status %d", end->status);
    else
        (void) snprintf(
            text, size, "the co-process was ended by signal %d (%s)", end->status, strsignal(end->status));
}

static void on_ended(_unused_ Spawned *program, const SpawnEnd *told, void *userdata) {
    const SpawnEnd end = *told; /* goes with the program */
    Stream *s = userdata;
    char why[600];

    s->program = spawn_free(s->program);
    for (int i = 0; i < 64 && !*s->reason && read_chunk(s) > 0; i++)
        ; /* a pipe full of last answers */
    end_error(s);
    if (!s->handler) {
        stream_free(s);
        on_closed(on_closed_userdata);
        return;
    }
    if (*s->reason)
        (void) snprintf(why, sizeof(why), "the co-process was ended: %s", s->reason);
    else
        describe_end(s, why, sizeof(why), &end);
    if (!*s->reason && !s->forced && s->line.len > 0)
        (void) strncat(why, ", in the middle of a line", sizeof(why) - strlen(why) - 1);
    if (!s->forced && (end.start_error != 0 || !TAILQ_EMPTY(&s->sent)))
        log_warning("%s: %s", s->name, why);
    pipes_close(s);
    bool forced = s->forced;
    s->forced = false;
    *s->reason = '\0';
    const RunVerdict v = {
        .outcome = RUN_RETRY, .error = why, .lines = &s->lines, .tasks_refused = end.usage.tasks_refused
    };
    judge_all(&s->sent, forced, &v);
    if (end.start_error != 0)
        judge_all(&s->waiting, false, &v);
    lines_done(&s->lines);
    s->lines = (Lines){};
    restart_later(s);
}

static int pipe_open(int *ours, int *theirs, bool input) {
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    *ours = fds[input ? 1 : 0];
    *theirs = fds[input ? 0 : 1];
    return fcntl(*ours, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

static int watch(Stream *s) {
    int r = sd_event_add_io(s->event, &s->input_io, s->input, EPOLLOUT, on_input, s);
    if (r >= 0)
        r = sd_event_add_io(s->event, &s->output_io, s->output, EPOLLIN, on_output, s);
    if (r >= 0)
        r = sd_event_add_io(s->event, &s->error_io, s->error, EPOLLIN, on_error, s);
    /* Behind the turn, as all that programs write. */
    if (r >= 0)
        r = sd_event_source_set_priority(s->output_io, SD_EVENT_PRIORITY_NORMAL + 20);
    return r < 0 ? r : sd_event_source_set_priority(s->error_io, SD_EVENT_PRIORITY_NORMAL + 20);
}

static int stream_launch(Stream *s) {
    static unsigned lives; /* of all: one that is closing may still run */
    static const SpawnEvents events = { .ended = on_ended };
    _cleanup_(freep) char *name = NULL, *variable = NULL;
    _cleanup_(closep) int input = -EBADF, output = -EBADF, error = -EBADF;

    int r = string_printf(&name, "%s.%u", s->name, lives++);
    if (r >= 0)
        r = string_printf(&variable, "PGMILL_NAME=%s", s->name);
    if (r >= 0)
        r = pipe_open(&s->input, &input, true);
    if (r >= 0)
        r = pipe_open(&s->output, &output, false);
    if (r >= 0)
        r = pipe_open(&s->error, &error, false);
    if (r >= 0)
        r = watch(s);
    const SpawnSpec spec = { .name = name,
        .argv = s->handler->argv,
        .environment = (char *[]){ variable, NULL },
        .stdio = { input, output, error },
        .limits = &s->handler->limits };
    s->strays = 0;
    s->lines.limit = s->handler->log_limit;
    if (r >= 0)
        r = spawn_start(&s->program, s->event, &spec, &events, s);
    if (r < 0)
        pipes_close(s);
    return r;
}

static int stream_get(Handler *h, sd_event *event, Stream **ret) {
    if (!h->state) {
        Stream *s = calloc(1, sizeof(Stream));
        if (!s)
            return -ENOMEM;
        int r = string_replace(&s->name, h->name);
        if (r >= 0)
            r = timer_new(&s->timer, event, USEC_PER_MSEC, on_timer, s);
        if (r < 0) {
            free(s->name);
            free(s);
            return r;
        }
        s->handler = h;
        s->event = event;
        s->input = s->output = s->error = -EBADF;
        TAILQ_INIT(&s->waiting);
        TAILQ_INIT(&s->sent);
        h->state = s;
    }
    *ret = h->state;
    return 0;
}

/* ---- the executor ---- */

static int stream_start(Run *run, sd_event *event) {
    int restarting = SD_EVENT_OFF;
    Stream *s;

    int r = stream_get(run->handler, event, &s);
    if (r < 0)
        return r;
    (void) sd_event_source_get_enabled(s->timer, &restarting);
    if (!s->program && restarting == SD_EVENT_OFF)
        r = stream_launch(s);
    Link *link = r < 0 ? NULL : calloc(1, sizeof(Link));
    if (!link)
        return r < 0 ? r : -ENOMEM;
    *link = (Link){ .stream = s, .run = run };
    TAILQ_INSERT_TAIL(&s->waiting, link, entry);
    run->execution = link;
    pump(s);
    return 0;
}

static void stream_stop(Run *run, bool ask) {
    Link *link = run->execution;

    if (!link)
        return;
    Stream *s = link->stream;
    if (!link->sent || !s->program) {
        run_judged(link_free(link), &(RunVerdict){ .outcome = RUN_RETURNED });
        return;
    }
    if (ask) {
        if (!link->cancelled)
            stream_write_cancel(&s->out, run->id_text);
        link->cancelled = true;
        pump(s);
        return;
    }
    link->guilty = s->forced = true;
    (void) sd_event_source_set_enabled(s->input_io, SD_EVENT_OFF);
    spawn_stop(s->program, false);
}

static bool stream_waits(const Run *run) {
    const Link *link = run->execution;

    return link && !link->sent;
}

static void stream_run_done(Run *run) {
    if (run->execution)
        (void) link_free(run->execution);
}

/* The end of its input tells it to end. */
static void stream_retire(Handler *h) {
    Stream *s = TAKE_PTR(h->state);

    if (!s)
        return;
    s->handler = NULL;
    LIST_INSERT_HEAD(&closing, s, closing_entry);
    s->input_io = sd_event_source_disable_unref(s->input_io);
    s->input = close_fd(s->input);
    if (!s->program || timer_start(s->timer, h->kill_grace_usec) < 0)
        stream_free(s);
}

bool stream_closing(void) {
    return !LIST_EMPTY(&closing);
}

void stream_on_closed(void (*closed)(void *userdata), void *userdata) {
    on_closed = closed;
    on_closed_userdata = userdata;
}

void stream_kill_closing(void) {
    Stream *s;

    LIST_FOREACH (s, &closing, closing_entry)
        spawn_stop(s->program, false);
}

void stream_done(void) {
    while (!LIST_EMPTY(&closing))
        stream_free(LIST_FIRST(&closing));
}

static const char *stream_missing(const Handler *h) {
    return h->argv ? NULL : "Exec";
}

const Executor executor_stream = {
    .name = "stream",
    .missing = stream_missing,
    .start = stream_start,
    .stop = stream_stop,
    .waits = stream_waits,
    .done = stream_run_done,
    .retire = stream_retire,
};
