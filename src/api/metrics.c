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

/* In the order of the answer. The rows come grouped by name; a histogram's end in _bucket, _sum and _count. */
static const struct {
    const char *name, *type, *help;
} families[] = {
    { "pgmill_build_info", "gauge", "What is running." },
    { "pgmill_tasks", "gauge",
        "Tasks by queue and status; SCHEDULED includes those that wait for their backoff." },
    { "pgmill_tasks_submitted_total", "counter", "Tasks submitted." },
    { "pgmill_tasks_finished_total", "counter", "Runs that ended, by queue and outcome." },
    { "pgmill_tasks_retried_total", "counter", "Failed runs that another attempt follows." },
    { "pgmill_wait_seconds", "histogram", "From due to started, of runs that ended." },
    { "pgmill_run_seconds", "histogram", "From started to ended, of runs that ended." },
    { "pgmill_oldest_available_seconds", "gauge", "How long the oldest task that is due has waited." },
    { "pgmill_queue_paused", "gauge", "1 while nothing of the queue is started." },
    { "pgmill_rescues_total", "counter", "Tasks taken from workers that were lost, by reason." },
    { "pgmill_fenced_writes_total", "counter",
        "Writes of workers that were refused, since the task was not theirs." },
    { "pgmill_workers", "gauge", "Workers by status." },
    { "pgmill_db_oldest_transaction_age_seconds", "gauge",
        "An old one keeps dead rows from being cleaned up." },
};

static bool belongs(const char *name, const char *family, const char *type) {
    static const char *const parts[] = { "_bucket", "_sum", "_count" };
    size_t n = strlen(family);

    if (strncmp(name, family, n) != 0)
        return false;
    for (size_t i = 0; streq(type, "histogram") && i < ELEMENTS(parts); i++)
        if (streq(name + n, parts[i]))
            return true;
    return name[n] == '\0';
}

static void write_family(Buf *b, const DbRows *rows, size_t family) {
    const char *name = families[family].name;

    buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", name, families[family].help, name, families[family].type);
    for (size_t i = 0; i < db_rows(rows); i++) {
        const char *metric = db_value(rows, i, 0), *labels = db_value(rows, i, 1),
                   *value = db_value(rows, i, 2);
        if (!belongs(metric, name, families[family].type) || !value)
            continue;
        bool some = labels && *labels;
        buf_printf(b, "%s%s%s%s %s\n", metric, some ? "{" : "", some ? labels : "", some ? "}" : "", value);
    }
}

static void write_all(Buf *b, const DbRows *rows) {
    buf_clear(b);
    for (size_t i = 0; i < ELEMENTS(families); i++)
        write_family(b, rows, i);
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
