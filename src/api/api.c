/* SPDX-License-Identifier: MIT */
/*
 * The role's top: makes everything, says what it is waiting for, ends everything. The only file here that logs
 * what happens to the service as a whole.
 */
#include "api/api.h"

#include <stdio.h>
#include <sysexits.h>

#include "api/ask.h"
#include "api/events.h"
#include "api/metrics.h"
#include "api/poke.h"
#include "api/problem.h"
#include "api/read.h"
#include "api/route.h"
#include "api/settings.h"
#include "api/submit.h"
#include "api/wait.h"
#include "base/log.h"
#include "base/log_id.h"
#include "base/service.h"
#include "base/time.h"

#define DESCRIPTORS  200                 /* besides those of connections */
#define CROWDED_USEC (10 * USEC_PER_SEC) /* between two lines of the log */
#define PATIENCE_USEC \
    (10 * USEC_PER_SEC) /* as workers have with the grace period that they have by themselves */
#define BULK_PATIENCE_USEC (60 * USEC_PER_SEC)
#define DRAIN_USEC         (5 * USEC_PER_SEC)

/* "127.0.0.1:8000, [::1]:8000" */
static const char *addresses(const Api *api, char *buf, size_t size) {
    size_t n = 0;

    *buf = '\0';
    for (size_t i = 0; i < api->listen.count && n < size; i++)
        n += (size_t) snprintf(buf + n, size - n, "%s%s", i > 0 ? ", " : "", api->listen.sockets[i].address);
    return buf;
}

/* Why the service is not ready. */
typedef struct Lack {
    const char *state, *why, *log_id;
} Lack;

static const char not_storing[] = "waiting: submissions are not stored";

/* False: nothing is missing, or why is not known yet. */
static bool find_lack(const Api *api, Lack *ret) {
    for (size_t i = 0; i < _LINK_USE_MAX; i++) {
        const Link *l = api->links[i];
        if (!link_db(l) && link_state(l)) {
            *ret = (Lack){ link_state(l), link_why(l), link_log_id(l) };
            return true;
        }
    }
    if (api_missing_link(api) || !storing_why(api->storing))
        return false;
    *ret = (Lack){ not_storing, storing_why(api->storing), LOG_ID_NOT_STORING };
    return true;
}

/* ---- the database comes and goes ---- */

static const char usable[] = "usable";

static void say_usable(Api *api) {
    char where[400];

    api->said = usable;
    /* Not before there is a schema: it calls functions of it. Without it others rescue, and the next time it may. */
    if (!api->rescuer && rescuer_new(&api->rescuer, api->event, link_db(api->links[LINK_STEER])) < 0)
        log_warning("No memory to look after dead workers");
    service_ready("serving %s", addresses(api, where, sizeof(where)));
    if (api->was_usable)
        log_notice("The database is back");
    else
        log_info("Serving %s", where);
    api->was_usable = true;
}

/* Logged once for each state, not for each of the links nor for each try. */
static void say_unusable(Api *api, const Lack *lack) {
    service_status("%s: %s", lack->state, lack->why);
    if (api->said == lack->state)
        return;
    api->said = lack->state;
    log_event(api->was_usable ? LOG_WARNING : LOG_NOTICE, lack->log_id, NULL, "%s, %s: %s",
        api->was_usable ? "Answering 503" : "Not ready yet", lack->state, lack->why);
}

/* As soon as it is known whether the database can be used: the first request, which may be the very reason why this
 * process was started, is not told to come back a few milliseconds later. */
static int open_doors(Api *api) {
    for (size_t i = 0; i < api->listen.count; i++) {
        ListenSocket *s = &api->listen.sockets[i];
        int r = http_server_listen(api->server, s->fd, s->local);
        if (r < 0)
            return log_error_errno(r, "Cannot serve %s: %m", s->address);
        TAKE_FD(s->fd);
    }
    api->open = true;
    return 0;
}

static void look_whether_ready(void *userdata) {
    Api *api = userdata;
    bool ready = api_is_ready(api);
    Lack lack;

    if (!api->server)
        return; /* still being made */
    bool lacks = !ready && find_lack(api, &lack);
    if (!api->open && (ready || lacks) && open_doors(api) < 0) {
        (void) sd_event_exit(api->event, EX_OSERR);
        return;
    }
    if (lacks)
        say_unusable(api, &lack);
    else if (ready && api->said != usable)
        say_usable(api);
}

/* Settings of the same file lead all sessions to the same pooler, so that another try would not mend it. */
static void on_pooled(void *userdata) {
    const Api *api = userdata;

    log_event(LOG_ERR, LOG_ID_POOLER, NULL,
        "There is a connection pooler between this service and PostgreSQL. It needs sessions of its own: "
        "give "
        "it the server's own address and port");
    (void) sd_event_exit(api->event, EX_CONFIG);
}

static void on_link_changed(Link *l, void *userdata) {
    Api *api = userdata;

    if (!api->server)
        return; /* still being made */
    if (l == api->links[LINK_WRITE] || l == api->links[LINK_WRITE_TOO]) {
        groups_link_changed(api->submissions);
        if (l == api->links[LINK_WRITE])
            storing_link_changed(api->storing);
    } else if (l == api->links[LINK_READ]) {
        groups_link_changed(api->reads);
        watch_link_changed(api->watch);
    } else if (l == api->links[LINK_STEER] && !link_db(l))
        rescuer_reset(api->rescuer);
    look_whether_ready(api);
}

/* ---- changes of tasks ---- */

static void on_notified(_unused_ const char *channel, const char *payload, void *userdata) {
    const Api *api = userdata;

    watch_notified(api->watch, payload);
}

static void on_live(void *userdata) {
    const Api *api = userdata;

    events_live(api->events);
    waits_look(api->waits);
}

static void on_gap(void *userdata) {
    const Api *api = userdata;

    events_gap(api->events);
}

static void on_event(const WatchEvent *event, void *userdata) {
    const Api *api = userdata;

    events_add(api->events, event);
    waits_event(api->waits, event);
}

/* ---- HTTP ---- */

static void on_turned(void *userdata) {
    Api *api = userdata;

    groups_flush(api->submissions);
    groups_flush(api->reads);
}

/* One who comes too often, or all of them together, must not fill the log too. */
static void on_crowded(const char *address, void *userdata) {
    static uint64_t said[2];
    const Api *api = userdata;
    uint64_t now = time_now_boottime();

    if (now - said[!!address] < CROWDED_USEC && said[!!address] > 0)
        return;
    said[!!address] = now;
    if (address)
        log_warning("%s has %ju connections, and gets no more (AddressConnectionsMax=)", address,
            (uintmax_t) api->config.address_connections_max);
    else
        log_warning("All but a few of %ju connections are open (ConnectionsMax=): answering probes only",
            (uintmax_t) api->connections_max);
}

static void on_drained(void *userdata) {
    Api *api = userdata;

    (void) sd_event_exit(api->event, 0);
}

static int on_drain_timeout(sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
    const Api *api = userdata;
    const size_t n = http_server_active(api->server);

    log_warning("Giving up %zu request%s that did not end in time", n, PLURAL(n));
    return sd_event_exit(sd_event_source_get_event(s), 0);
}

static int on_reload(
    _unused_ sd_event_source *s, _unused_ const struct signalfd_siginfo *si, void *userdata) {
    Api *api = userdata;

    if (api->server)
        settings_reload(api);
    return 0;
}

static int on_stop(sd_event_source *s, _unused_ const struct signalfd_siginfo *si, void *userdata) {
    static bool stopping;
    Api *api = userdata;
    sd_event *event = sd_event_source_get_event(s);

    service_stopping();
    if (stopping || !api->server)
        return sd_event_exit(event, 0);
    stopping = true;
    const size_t n = http_server_active(api->server);
    service_status("finishing %zu request%s", n, PLURAL(n));
    waits_hurry(api->waits);
    http_server_drain(api->server);
    if (sd_event_add_time_relative(
            event, NULL, CLOCK_BOOTTIME, DRAIN_USEC, USEC_PER_MSEC, on_drain_timeout, api) < 0)
        return sd_event_exit(event, 0);
    return 0;
}

/* ---- making and ending ---- */

/* Connections wait in the sockets' queues until open_doors(). */
static int make_server(Api *api) {
    /* What is read changes by itself, and is never what a browser guesses. */
    static const HttpHeader headers[] = {
        { "Cache-Control", "no-store" },
        { "X-Content-Type-Options", "nosniff" },
        {},
    };
    static const HttpEvents events = {
        .begin = route_begin,
        .headers = headers,
        .refuse = route_refuse,
        .turned = on_turned,
        .late = problem_write_timeout,
        .drained = on_drained,
        .crowded = on_crowded,
    };
    HttpServer *server;

    int r = listen_sockets(&api->listen, &api->config, api->tokens_asked);
    if (r < 0)
        return r;
    r = http_server_new(&server, api->event, &events, settings_limits(api), api);
    if (r < 0)
        return log_error_errno(r, "Cannot make the HTTP server: %m");
    api->server = server;
    return 0;
}

static int make_links(Api *api) {
    static const char *const names[_LINK_USE_MAX] = {
        [LINK_WRITE] = "pgmill-api write",
        [LINK_WRITE_TOO] = "pgmill-api write too",
        [LINK_READ] = "pgmill-api read",
        [LINK_STEER] = "pgmill-api steer",
        [LINK_KEYED] = "pgmill-api keyed",
        [LINK_BULK] = "pgmill-api bulk",
        [LINK_BROWSE] = "pgmill-api browse",
    };
    static const LinkEvents events = {
        .changed = on_link_changed, .notified = on_notified, .pooled = on_pooled
    };

    for (size_t i = 0; i < _LINK_USE_MAX; i++) {
        _cleanup_(freep) char *error = NULL;
        int r = link_new(&api->links[i], api->event, api->config.database, names[i],
            i == LINK_BULK ? BULK_PATIENCE_USEC : PATIENCE_USEC, &events, api, &error);
        if (r == -EINVAL) {
            log_error("Cannot read the database's address: %s", error ? error : "it is no connection string");
            return r;
        }
        if (r < 0)
            return log_error_errno(r, "Cannot connect to the database: %m");
    }
    return 0;
}

static int make_queues(Api *api) {
    static const WatchEvents events = { .live = on_live, .gap = on_gap, .event = on_event };
    Link *read = api->links[LINK_READ];

    int r = storing_new(&api->storing, api->event, api->links[LINK_WRITE], look_whether_ready, api);
    if (r >= 0)
        r = groups_new(&api->submissions, api->event, &api->links[LINK_WRITE], 2, &submit_ops, api->storing);
    if (r >= 0)
        r = groups_new(&api->reads, api->event, &read, 1, &read_ops, NULL);
    if (r >= 0)
        r = watch_new(&api->watch, api->event, read, api->instance, &events, api);
    if (r >= 0)
        r = waits_new(&api->waits, api->event, api->reads, api->watch);
    if (r >= 0)
        r = events_new(&api->events, api->event, api->watch);
    if (r >= 0)
        r = asks_new(&api->asks, api->event, api);
    if (r >= 0)
        r = metrics_new(&api->metrics);
    if (r >= 0)
        r = poke_new(&api->poke, api->event, api->links[LINK_STEER]);
    return r;
}

static int make(Api *api) {
    int r = make_links(api);
    if (r < 0)
        return r;
    r = make_queues(api);
    if (r < 0)
        return log_error_errno(r, "Cannot make the queues of requests: %m");
    return make_server(api);
}

/* Whoever answers requests goes before the server that owns them, whoever is told of their end after it. */
static void api_done(Api *api) {
    for (size_t i = 0; i < _LINK_USE_MAX; i++) /* what one hands back may look for another */
        link_close(api->links[i]);
    rescuer_free(api->rescuer);
    asks_free(api->asks);
    groups_free(api->submissions);
    groups_free(api->reads);
    http_server_free(api->server);
    waits_free(api->waits);
    events_free(api->events);
    watch_free(api->watch);
    metrics_free(api->metrics);
    poke_free(api->poke);
    storing_free(api->storing);
    for (size_t i = 0; i < _LINK_USE_MAX; i++)
        link_free(api->links[i]);
    listen_sockets_done(&api->listen);
    sd_event_unref(api->event);
    tokens_done(&api->tokens);
    config_done(&api->config);
}

static int serve(Api *api) {
    int r = service_loop_new(&api->event, on_stop, on_reload, api);
    if (r < 0)
        return log_error_errno(r, "Cannot make the event loop: %m");
    r = make(api);
    if (r < 0)
        return r;
    service_status("connecting to the database");
    r = sd_event_loop(api->event);
    return r < 0 ? log_error_errno(r, "The event loop failed: %m") : r;
}

/* Each takes a descriptor. */
static size_t most_connections(const Config *config) {
    uint64_t most = service_want_descriptors(config->connections_max + DESCRIPTORS);

    most = most > 2 * DESCRIPTORS ? most - DESCRIPTORS : most / 2;
    if (most >= config->connections_max)
        return config->connections_max;
    log_warning("ConnectionsMax=%ju is more than the limit of open files allows (LimitNOFILE=): taking %ju",
        (uintmax_t) config->connections_max, (uintmax_t) most);
    return most;
}

/* What another start would not mend must not be tried for each connection that waits. */
static void refuse_if_hopeless(const int *status) {
    if (*status == EX_CONFIG || *status == EX_USAGE)
        service_refuse_waiting();
}

static int run(int argc, char *argv[]) {
    _cleanup_(service_stoppingp) _unused_ char stopping;
    _cleanup_(api_done) Api api = { .argc = argc, .argv = argv };
    _cleanup_(refuse_if_hopeless) int status = EX_OK; /* before api_done() closes the sockets */
    char **arguments;

    log_open("pgmill-api");
    api.instance = id_new();
    int r = config_load(&api.config, "API", argc, argv, &arguments);
    if (r < 0)
        return status = config_exit_status(r);
    if (*arguments) {
        log_error("pgmill api takes no argument \"%s\"", *arguments);
        return status = EX_USAGE;
    }
    if (settings_hosts(&api.config) < 0 || settings_base(&api.config) < 0 ||
        settings_tokens(&api.config, &api.tokens, &api.tokens_asked) < 0)
        return status = EX_CONFIG;
    api.connections_max = most_connections(&api.config);
    r = serve(&api);
    if (r == -EINVAL || r == -EACCES)
        return status = EX_CONFIG;
    return status = r < 0 ? EX_OSERR : r;
}

const Verb api_verb = {
    .name = "api",
    .run = run,
    .arguments = "[OPTION…]",
    .summary = "Serve the REST API",
    .help = "Takes its listening sockets from the service manager, else makes those of --listen.\n"
            "Ready as soon as the database stores submissions, or after 15 seconds without; whenever it is "
            "away,\n"
            "requests get 503. A connection pooler on the way to it is refused: exit status 78.\n",
    .section = "API",
};
