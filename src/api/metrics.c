/* SPDX-License-Identifier: MIT */
#include "api/metrics.h"

#include "api/ask.h"
#include "base/time.h"
#include "store/admin.h"

#define FRESH_USEC (5 * USEC_PER_SEC)

struct Metrics {
    Buf text;
    uint64_t made; /* CLOCK_BOOTTIME; 0: never */
};

/* What is said of each; the database says which there are. */
static const struct {
    const char *name, *type, *help;
} families[] = {
    { "pgmill_build_info", "gauge", "What is running." },
    { "pgmill_tasks", "gauge", "Tasks by queue and status." },
    { "pgmill_tasks_submitted_total", "counter", "Tasks submitted." },
    { "pgmill_tasks_finished_total", "counter", "Runs that ended, by queue and outcome." },
    { "pgmill_tasks_retried_total", "counter", "Failed runs that another attempt follows." },
    { "pgmill_wait_seconds", "histogram", "From due to started, of runs that ended." },
    { "pgmill_run_seconds", "histogram", "From started to ended, of runs that ended." },
    { "pgmill_oldest_available_seconds", "gauge", "How long the oldest task that is due has waited." },
    { "pgmill_queue_paused", "gauge", "1 while nothing of the queue is started." },
    { "pgmill_resting_handlers", "gauge", "Workers where the program of a handler cannot begin, by name." },
    { "pgmill_rescues_total", "counter", "Tasks taken from workers that were lost, by reason." },
    { "pgmill_fenced_writes_total", "counter",
        "Writes of workers that were refused, since the task was not theirs." },
    { "pgmill_workers", "gauge", "Workers by status." },
    { "pgmill_db_oldest_transaction_age_seconds", "gauge",
        "An old one keeps dead rows from being cleaned up." },
};

/* Of a histogram's "_bucket", "_sum" and "_count": the histogram's. */
static size_t family_length(const char *metric) {
    static const char *const parts[] = { "_bucket", "_sum", "_count" };
    size_t n = strlen(metric);

    for (size_t i = 0; i < ELEMENTS(parts); i++) {
        size_t part = strlen(parts[i]);
        if (n > part && streq(metric + n - part, parts[i]))
            return n - part;
    }
    return n;
}

static void write_head(Buf *b, const char *metric, size_t n) {
    for (size_t i = 0; i < ELEMENTS(families); i++)
        if (strlen(families[i].name) == n && memcmp(families[i].name, metric, n) == 0)
            buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", families[i].name, families[i].help,
                families[i].name, families[i].type);
}

/* The rows of a family come together. */
static void write_all(Buf *b, const DbRows *rows) {
    const char *before = "";
    size_t n_before = 0;

    buf_clear(b);
    for (size_t i = 0; i < db_rows(rows); i++) {
        const char *metric = db_value(rows, i, 0), *labels = db_value(rows, i, 1),
                   *value = db_value(rows, i, 2);
        size_t n = family_length(metric);
        if (n != n_before || memcmp(metric, before, n) != 0)
            write_head(b, metric, n);
        before = metric;
        n_before = n;
        buf_printf(b, *labels ? "%s{%s} %s\n" : "%s%s %s\n", metric, labels, value);
    }
}

static void answer(HttpRequest *r, const Metrics *m) {
    Buf copy = {};

    if (buf_error(&m->text) < 0)
        copy.failed = true;
    else
        buf_add(&copy, m->text.data, m->text.len);
    http_answer(r, 200, "text/plain; version=0.0.4; charset=utf-8", NULL, &copy);
}

static void on_metrics(const Ask *ask, const DbRows *rows) {
    Metrics *m = ask->api->metrics;

    write_all(&m->text, rows);
    m->made = time_now_boottime();
    answer(ask->request, m);
}

void metrics_get(Api *api, HttpRequest *r, _unused_ const char *capture) {
    if (api->metrics->made > 0 && time_now_boottime() - api->metrics->made < FRESH_USEC)
        return answer(r, api->metrics);
    Ask *ask = ask_new(&(Ask){ .api = api, .request = r, .use = LINK_BROWSE, .answer = on_metrics });
    if (ask)
        ask_sent(ask, admin_metrics(ask_db(ask), ask_on_reply, ask));
}

int metrics_new(Metrics **ret) {
    *ret = calloc(1, sizeof(Metrics));
    return *ret ? 0 : -ENOMEM;
}

Metrics *metrics_free(Metrics *m) {
    if (m)
        buf_done(&m->text);
    free(m);
    return NULL;
}
