/* SPDX-License-Identifier: MIT */
#include "api/events.h"

#include <inttypes.h>
#include <stdio.h>

#include "api/failure.h"
#include "api/problem.h"
#include "api/query.h"
#include "base/timer.h"

#define RING_SIZE   12288             /* events: more than a bulk makes at once … */
#define RING_BYTES  (8 * 1024 * 1024) /* … whatever its texts; one has about 800 at most */
#define READERS_MAX 256
#define BEAT_USEC   (15 * USEC_PER_SEC)
#define FRAME_MAX   1024 /* bytes of one event with its id */

typedef struct Entry {
    char *text, *queue;
    size_t len;
    Id id;
} Entry;

typedef struct Reader {
    Events *all;
    struct Reader *next, *previous;
    HttpRequest *request;
    char *queue; /* only of this one; NULL: any */
    Id task;     /* only this one, if one_task */
    bool one_task;
    bool begun; /* the answer is under way */
    bool reset, beat, hello;
    uint64_t place; /* number of the next event */
} Reader;

struct Events {
    Watch *watch;
    Reader *first;
    size_t count;
    char epoch[ID_TEXT_SIZE];
    uint64_t oldest,
        number; /* of the first event that is kept, of the next one; the first of an epoch is 1 */
    size_t bytes;
    Entry ring[RING_SIZE];
    sd_event_source *beat;
};

/* ---- the ring ---- */

static Entry *entry_of(Events *all, uint64_t number) {
    return &all->ring[number % RING_SIZE];
}

static void entry_clear(Entry *e) {
    free(e->text);
    free(e->queue);
    *e = (Entry){};
}

static void drop_oldest(Events *all) {
    Entry *e = entry_of(all, all->oldest++);

    all->bytes -= e->len;
    entry_clear(e);
}

static void wake_all(Events *all) {
    for (Reader *r = all->first; r; r = r->next)
        if (r->begun)
            http_wake(r->request);
}

void events_add(Events *all, const WatchEvent *event) {
    Entry e = { .text = strndup(event->text.text, event->text.len),
        .queue = strdup(event->queue),
        .len = event->text.len,
        .id = event->id };

    if (!e.text || !e.queue || event->text.len > FRAME_MAX - 128) {
        entry_clear(&e);
        events_gap(all); /* one is missing */
        return events_live(all);
    }
    while (all->number - all->oldest == RING_SIZE || all->bytes + e.len > RING_BYTES)
        drop_oldest(all);
    all->bytes += e.len;
    *entry_of(all, all->number++) = e;
    wake_all(all);
}

static void new_epoch(Events *all) {
    while (all->oldest < all->number)
        drop_oldest(all);
    (void) id_format(id_new(), all->epoch);
    all->oldest = all->number = 1;
}

void events_gap(Events *all) {
    new_epoch(all);
    for (Reader *r = all->first, *next; r; r = next) {
        next = r->next;
        r->place = all->number;
        if (!r->begun)
            problem_answer(r->request, PROBLEM_NO_DATABASE, "The database was lost; connect again");
    }
}

/* ---- what a reader gets ---- */

static bool wants(const Reader *r, const Entry *e) {
    return (!r->queue || streq(r->queue, e->queue)) && (!r->one_task || id_equal(r->task, e->id));
}

static size_t put_reset(Reader *r, char *buf, size_t size) {
    r->reset = false;
    return (size_t) snprintf(
        buf, size, "id: %s-%" PRIu64 "\nevent: reset\ndata: {}\n\n", r->all->epoch, r->place - 1);
}

static size_t put_signs(Reader *r, char *buf, size_t size) {
    const char *text = r->hello ? "retry: 1000\n\n" : r->beat ? ": alive\n\n" : "";

    r->hello = r->beat = false;
    return (size_t) snprintf(buf, size, "%s", text);
}

static size_t on_pull(_unused_ HttpRequest *request, void *userdata, char *buf, size_t size) {
    Reader *r = userdata;
    Events *all = r->all;

    if (size < 2 * FRAME_MAX) /* http.c asks for more at once */
        return 0;
    size_t n = put_signs(r, buf, size);
    if (r->place < all->oldest) {
        r->reset = true;
        r->place = all->number;
    }
    if (r->reset)
        n += put_reset(r, buf + n, size - n);
    for (; r->place < all->number && size - n >= FRAME_MAX; r->place++) {
        const Entry *e = entry_of(all, r->place);
        if (wants(r, e))
            n += (size_t) snprintf(buf + n, size - n, "id: %s-%" PRIu64 "\nevent: task\ndata: %s\n\n",
                all->epoch, r->place, e->text);
    }
    return n;
}

static void reader_free(void *what) {
    Reader *r = what;
    Events *all = r->all;

    if (r->previous)
        r->previous->next = r->next;
    else
        all->first = r->next;
    if (r->next)
        r->next->previous = r->previous;
    all->count--;
    watch_end_one(all->watch);
    free(r->queue);
    free(r);
}

static void on_closed(_unused_ HttpRequest *request, void *userdata) {
    reader_free(userdata);
}

static void reader_released(void *what) {
    Reader *r = what;

    if (!r->begun) /* it was refused while it waited for the watch */
        reader_free(r);
}

/* From here on nothing is missed. */
static void reader_begin(Reader *r) {
    static const HttpStream stream = { .pull = on_pull, .closed = on_closed };
    static const HttpHeader headers[] = { { "X-Accel-Buffering", "no" }, {} };

    r->begun = r->hello = true;
    http_answer_stream(r->request, "text/event-stream", headers, &stream, r);
}

void events_live(Events *all) {
    for (Reader *r = all->first, *next; r; r = next) {
        next = r->next;
        if (!r->begun)
            reader_begin(r);
        else
            r->reset = true; /* of the time since the gap, nobody knows */
    }
    wake_all(all);
}

void events_admit(Events *all, const Api *api) {
    for (Reader *r = all->first, *next; r; r = next) {
        next = r->next;
        if (api_admits(api, r->request, SCOPE_READ))
            continue;
        if (r->begun)
            http_stream_end(r->request);
        else
            problem_answer_unauthorized(r->request, http_header(r->request, "Authorization"));
    }
}

static int on_beat(sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
    Events *all = userdata;

    for (Reader *r = all->first; r; r = r->next)
        r->beat = true;
    wake_all(all);
    return all->first ? timer_start(s, BEAT_USEC) : 0;
}

/* ---- requests ---- */

/* Where a reader goes on that was here before; the end of the ring for a new one. */
static void reader_place(Reader *r, const char *last_id) {
    const Events *all = r->all;
    size_t n = strlen(all->epoch);
    uint64_t number;

    r->place = all->number;
    if (!last_id || !*last_id)
        return;
    if (strncmp(last_id, all->epoch, n) == 0 && last_id[n] == '-' &&
        parse_uint(last_id + n + 1, all->number - 1, &number) >= 0 && number + 1 >= all->oldest)
        r->place = number + 1;
    else
        r->reset = true;
}

/* All places are taken; those of clients that are gone, which the next sign of life would show, are free soon. */
static bool is_full(const Events *all) {
    if (all->count < READERS_MAX)
        return false;
    for (Reader *r = all->first; r; r = r->next)
        if (r->begun && http_peer_is_done(r->request))
            http_stream_end(r->request);
    return true;
}

static void reader_add(Reader *r) {
    Events *all = r->all;

    r->next = all->first;
    if (r->next)
        r->next->previous = r;
    all->first = r;
    if (all->count++ == 0)
        (void) timer_start(all->beat, BEAT_USEC);
    http_hold(r->request, r, reader_released);
    bool live = watch_is_live(all->watch);
    watch_begin_one(all->watch);
    if (live)
        reader_begin(r);
}

enum { QUERY_QUEUE, QUERY_TASK };

static void query_queue(Query *q) {
    const char *value = q->values[QUERY_QUEUE];

    if (value && !task_label_valid(value))
        fields_add(&q->complaints, "queue", "must be " TASK_LABEL_RULE ", not \"%s\"", FIELDS_QUOTE(value));
}

static void query_task(Query *q, Reader *r) {
    const char *value = q->values[QUERY_TASK];

    r->one_task = value;
    if (value && id_parse(value, &r->task) < 0)
        fields_add(&q->complaints, "task", "must be a UUID, not \"%s\"", FIELDS_QUOTE(value));
}

void events_get(Api *api, HttpRequest *request, _unused_ const char *capture) {
    static const char *const names[] = { [QUERY_QUEUE] = "queue", [QUERY_TASK] = "task", NULL };
    _cleanup_(query_done) Query q = {};
    Events *all = api->events;
    Reader read = { .all = all, .request = request };

    query_read(&q, request, names, 0);
    query_queue(&q);
    query_task(&q, &read);
    if (query_refused(&q, request))
        return;
    if (!link_db(api->links[LINK_READ]))
        return failure_answer_unusable(request, api->links[LINK_READ]);
    Reader *r = !is_full(all) ? malloc(sizeof(Reader)) : NULL;
    if (!r)
        return problem_answer(request, PROBLEM_BUSY, "%zu others read the events already", all->count);
    *r = read;
    r->queue = TAKE_PTR(q.values[QUERY_QUEUE]);
    reader_place(r, http_header(request, "Last-Event-ID"));
    reader_add(r);
}

int events_new(Events **ret, sd_event *event, Watch *watch) {
    Events *all = calloc(1, sizeof(Events));

    if (!all)
        return -ENOMEM;
    all->watch = watch;
    new_epoch(all);
    int r = timer_new(&all->beat, event, USEC_PER_SEC / 4, on_beat, all);
    if (r < 0) {
        events_free(all);
        return r;
    }
    *ret = all;
    return 0;
}

Events *events_free(Events *all) {
    if (!all)
        return NULL;
    while (all->oldest < all->number)
        drop_oldest(all);
    sd_event_source_disable_unref(all->beat);
    free(all);
    return NULL;
}
