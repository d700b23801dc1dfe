/* SPDX-License-Identifier: MIT */
#include "api/settings.h"

#include "api/events.h"
#include "api/hosts.h"
#include "base/log.h"
#include "base/service.h"

int settings_tokens(const Config *config, Tokens *ret, bool *ret_asked) {
    *ret_asked = *config->tokens;
    if (!*ret_asked)
        return 0;
    int r = tokens_load(config->tokens, ret);
    if (r >= 0 && ret->count == 0)
        log_warning("%s holds no token: nobody gets in but by Unix sockets", config->tokens);
    return r;
}

int settings_hosts(const Config *config) {
    const char *wrong = hosts_find_wrong(config->allowed_hosts);

    if (!wrong)
        return 0;
    log_error("AllowedHosts= names \"%s\": it must be a name as in queue.example.org or an address, each "
              "with or without :PORT",
        wrong);
    return -EINVAL;
}

int settings_base(const Config *config) {
    static const char may[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/";
    const char *path = config->base_path;
    size_t n = strlen(path);

    if (n == 0 || (*path == '/' && path[n - 1] != '/' && n <= HTTP_BASE_MAX && strspn(path, may) == n &&
                      !strstr(path, "//")))
        return 0;
    log_error("BasePath= is \"%s\": it must be a path as in /pgmill, with a slash before each segment and "
              "none at the end, of at most %d letters, digits and -._~",
        path, HTTP_BASE_MAX);
    return -EINVAL;
}

HttpLimits settings_limits(const Api *api) {
    return (HttpLimits){
        .base = api->config.base_path,
        .body_max = api->config.body_max,
        .connections_max = api->connections_max,
        .address_connections_max = api->config.address_connections_max,
    };
}

/* Nothing is taken over before all of it is known to be good. */
static int reload(Api *api) {
    _cleanup_(config_done) Config next = {};
    _cleanup_(tokens_done) Tokens tokens = {};
    char **arguments;
    bool asked;

    int r = config_load(&next, "API", api->argc, api->argv, &arguments);
    if (r < 0)
        return r;
    r = settings_hosts(&next);
    if (r >= 0)
        r = settings_base(&next);
    if (r >= 0)
        r = settings_tokens(&next, &tokens, &asked);
    if (r < 0)
        return r;
    if (!asked && api->listen.beyond) {
        log_error("Without access tokens it cannot go on listening on %s", api->listen.beyond);
        return -EACCES;
    }
    config_adopt(&api->config, &next, "API");
    tokens_done(&api->tokens);
    api->tokens = tokens;
    tokens = (Tokens){};
    if (api->tokens_asked && !asked)
        log_warning("There is no file of access tokens any more: every request is let in");
    api->tokens_asked = asked;
    events_admit(api->events, api);
    http_server_set_limits(api->server, settings_limits(api));
    return 0;
}

void settings_reload(Api *api) {
    service_reloading();
    if (reload(api) < 0)
        log_warning("Everything stays as it was");
    else
        log_info("Read the configuration again%s", api->tokens_asked ? ", and the access tokens" : "");
    service_reloaded();
}
