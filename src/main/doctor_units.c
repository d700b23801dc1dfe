/* SPDX-License-Identifier: MIT */
/* What has become of the services on this host. */
#include "base/service.h"
#include "main/doctor.h"
#include "main/setup.h"

#define ALL "pgmill*"

static CheckResult units_look(_unused_ const Check *self, _unused_ const CheckContext *c, Buf *found) {
    static const struct {
        const char *state, *what;
        CheckResult result;
    } table[] = {
        { "failed", " failed", CHECK_PROBLEM },
        { "activating", " has yet to come up", CHECK_WARNING },
    };
    CheckResult result = CHECK_OK;

    for (size_t i = 0; i < ELEMENTS(table); i++) {
        _cleanup_(buf_done) Buf names = {};
        int n = service_units(ALL, table[i].state, &names);
        if (n < 0) {
            buf_printf(found, "systemd does not answer: %s", strerror(-n));
            return CHECK_UNSEEN;
        }
        if (n == 0)
            continue;
        buf_printf(found, "%s%s%s", found->len > 0 ? "; " : "", names.data ? names.data : "", table[i].what);
        result = MAX(result, table[i].result);
    }
    if (result == CHECK_OK)
        buf_puts(found, "none has failed");
    return result;
}

static int add_name(const char *unit, void *userdata) {
    Buf *found = userdata;

    buf_printf(found, "%s%s", found->len > 0 ? ", " : "", unit);
    return 0;
}

static CheckResult settings_look(_unused_ const Check *self, _unused_ const CheckContext *c, Buf *found) {
    int r = setup_stale_visit(add_name, found);

    if (r < 0) {
        buf_printf(found, "systemd does not answer: %s", strerror(-r));
        return CHECK_UNSEEN;
    }
    if (found->len > 0) {
        buf_puts(found, " was started before its settings were changed");
        return CHECK_WARNING;
    }
    buf_puts(found, "no service is older than its settings");
    return CHECK_OK;
}

/* What runs now, does it after the next boot? */
static CheckResult boot_look(_unused_ const Check *self, _unused_ const CheckContext *c, Buf *found) {
    _cleanup_(buf_done) Buf names = {};
    int n = service_units(ALL ".service", "active", &names);

    if (n <= 0) {
        buf_puts(found, n < 0 ? "systemd does not answer" : "no service of pgmill runs on this host");
        return CHECK_UNSEEN;
    }
    if (service_unit_is_enabled("pgmill.target") <= 0) {
        buf_puts(found, "pgmill.target is not enabled");
        return CHECK_WARNING;
    }
    buf_puts(found, "pgmill.target is started");
    return CHECK_OK;
}

/* Adds the ticks of a timer that will not come. */
static int add_gaps(const char *unit, Buf *found) {
    char hour[CALENDAR_TEXT_SIZE], **calendar = NULL;
    int r = service_timer_calendar(unit, &calendar);

    for (char **expression = calendar; expression && *expression && r >= 0; expression++) {
        r = service_calendar_gap(*expression, hour);
        if (r > 0)
            buf_printf(found, "%s%s: OnCalendar=%s has no tick when clocks are put forward at %s",
                found->len > 0 ? "; " : "", unit, *expression, hour);
    }
    config_list_free(calendar);
    return r;
}

static CheckResult schedules_look(_unused_ const Check *self, _unused_ const CheckContext *c, Buf *found) {
    _cleanup_(buf_done) Buf names = {};
    char *state = NULL;
    int n = service_units("pgmill-schedule@*.timer", "active", &names), r = n;

    if (n > 0 && buf_error(&names) >= 0)
        for (char *unit = strtok_r(names.data, ", ", &state); unit && r >= 0;
             unit = strtok_r(NULL, ", ", &state))
            r = add_gaps(unit, found);
    if (r < 0) {
        buf_clear(found);
        buf_printf(found, "systemd does not answer: %s", strerror(-r));
        return CHECK_UNSEEN;
    }
    if (found->len > 0)
        return CHECK_WARNING;
    if (n == 0)
        buf_puts(found, "there is none on this host");
    else
        buf_puts(found, "each has all its ticks in the year to come");
    return CHECK_OK;
}

/* As shipped, workers and their tasks reach this host alone: also when somebody has changed Url= by hand. */
static CheckResult network_look(_unused_ const Check *self, const CheckContext *c, Buf *found) {
    static const char unit[] = "pgmill-worker@1.service"; /* if it does not run, as it would */
    _cleanup_(setup_done) Setup s = {};

    if (string_replace(&s.url, c->config->database) < 0 || setup_database_parse(&s) != 0) {
        buf_puts(found, "the database's URL cannot be read");
        return CHECK_UNSEEN;
    }
    if (!s.beyond) {
        buf_puts(found, "the database is on this host");
        return CHECK_OK;
    }
    int r = service_unit_denies_addresses(unit);
    if (r < 0) {
        buf_printf(found, "systemd does not answer: %s", strerror(-r));
        return CHECK_UNSEEN;
    }
    buf_printf(found, "%s %s reach the database, which is on another host", unit, r > 0 ? "may not" : "may");
    return r > 0 ? CHECK_PROBLEM : CHECK_OK;
}

const Check unit_checks[] = {
    {
        .name = "units",
        .look = units_look,
        .remedy = "\"systemctl status\" and \"journalctl -u\" with its name say why; then systemctl restart",
    },
    {
        .name = "settings",
        .look = settings_look,
        .remedy = "systemctl restart it, or \"pgmill setup\"",
    },
    {
        .name = "boot",
        .look = boot_look,
        .remedy = "systemctl enable pgmill.target",
    },
    {
        .name = "schedules",
        .look = schedules_look,
        .remedy = "choose an hour that every night has, or UTC: systemctl edit its timer",
    },
    {
        .name = "network",
        .look = network_look,
        .configured = true,
        .remedy = "\"pgmill setup\" writes the drop-in that lets workers reach other hosts",
    },
    {},
};
