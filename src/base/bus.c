/* SPDX-License-Identifier: MIT */
/*
 * What the service manager says over the system bus: org.freedesktop.systemd1(5).
 *
 * systemd sets TRIGGER_UNIT= for what a timer starts (systemd.exec(5), since 252). While the service runs, the timer's
 * TimersCalendar= still holds the time that elapsed; TRIGGER_TIMER_REALTIME_USEC= is when it was noticed, and of an earlier
 * run at times. Once a timer has started it, the service has TRIGGER_UNIT= even when somebody starts it by hand; the timer's
 * next time is still to come then. Where Persistent= makes up for a time that was missed, systemd puts the boot's time in
 * its place.
 */
#include <systemd/sd-bus.h>

#include "base/config.h"
#include "base/service.h"
#include "base/time.h"

#define MANAGER      "org.freedesktop.systemd1"
#define MANAGER_PATH "/org/freedesktop/systemd1"

static int unit_open(const char *unit, sd_bus **ret_bus, char **ret_path) {
    int r = sd_bus_path_encode(MANAGER_PATH "/unit", unit, ret_path);

    return r < 0 ? r : sd_bus_open_system(ret_bus);
}

void timer_tick_done(TimerTick *t) {
    config_list_free(t->calendar);
    *t = (TimerTick){};
}

static int add_calendar(TimerTick *t, size_t n, const char *expression) {
    char **list = reallocarray(t->calendar, n + 2, sizeof(char *));

    if (!list)
        return -ENOMEM;
    t->calendar = list;
    list[n] = strdup(expression);
    list[n + 1] = NULL;
    return list[n] ? 0 : -ENOMEM;
}

/* Of a timer's several OnCalendar=, the latest that is not still to come; at 0: none, so the timer did not elapse. */
static int read_tick(sd_bus_message *m, int64_t now, TimerTick *ret) {
    const char *expression;
    uint64_t usec;
    size_t n = 0;

    int r = sd_bus_message_enter_container(m, 'a', "(sst)");
    while (r >= 0 && (r = sd_bus_message_read(m, "(sst)", NULL, &expression, &usec)) > 0) {
        r = add_calendar(ret, n++, expression);
        if (usec <= (uint64_t) now)
            ret->at = MAX(ret->at, (int64_t) usec);
    }
    return r < 0 ? r : 0;
}

static int open_calendar(const char *unit, sd_bus **bus, sd_bus_message **ret) {
    _cleanup_(freep) char *path = NULL;

    int r = unit_open(unit, bus, &path);
    return r < 0 ? r
                 : sd_bus_get_property(
                       *bus, MANAGER, path, MANAGER ".Timer", "TimersCalendar", NULL, ret, "a(sst)");
}

static int read_calendar(const char *unit, int64_t now, TimerTick *ret) {
    _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
    _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;

    *ret = (TimerTick){};
    int r = open_calendar(unit, &bus, &m);
    if (r >= 0)
        r = read_tick(m, now, ret);
    if (r < 0)
        timer_tick_done(ret);
    return r;
}

int service_timer_tick(TimerTick *ret) {
    const char *unit = getenv("TRIGGER_UNIT");

    *ret = (TimerTick){};
    if (!unit)
        return -ENXIO;
    int r = read_calendar(unit, time_now(), ret);
    if (r >= 0 && ret->at == 0) {
        timer_tick_done(ret);
        r = -ENXIO;
    }
    return r;
}

int service_timer_calendar(const char *unit, char ***ret) {
    TimerTick tick;

    int r = read_calendar(unit, 0, &tick);
    *ret = r >= 0 ? tick.calendar : NULL;
    return r;
}

/* ---- one unit ---- */

static int unit_property(sd_bus *bus, const char *path, const char *name, char type, void *ret) {
    return sd_bus_get_property_trivial(bus, MANAGER, path, MANAGER ".Unit", name, NULL, type, ret);
}

int service_unit_begun(const char *unit, uint64_t *ret_usec) {
    _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
    _cleanup_(freep) char *path = NULL;
    uint64_t left = 0, entered = 0;

    int r = unit_open(unit, &bus, &path);
    if (r >= 0)
        r = unit_property(bus, path, "InactiveExitTimestamp", SD_BUS_TYPE_UINT64, &left);
    if (r >= 0)
        r = unit_property(bus, path, "InactiveEnterTimestamp", SD_BUS_TYPE_UINT64, &entered);
    *ret_usec = r >= 0 && left > entered ? left : 0;
    return r;
}

int service_unit_is_enabled(const char *unit) {
    _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
    _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
    const char *state;

    int r = sd_bus_open_system(&bus);
    if (r >= 0)
        r = sd_bus_call_method(
            bus, MANAGER, MANAGER_PATH, MANAGER ".Manager", "GetUnitFileState", NULL, &m, "s", unit);
    if (r >= 0)
        r = sd_bus_message_read(m, "s", &state);
    return r < 0 ? r : strncmp(state, "enabled", 7) == 0;
}

int service_unit_denies_addresses(const char *unit) {
    _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
    _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
    _cleanup_(freep) char *path = NULL;

    int r = unit_open(unit, &bus, &path);
    if (r >= 0)
        r = sd_bus_get_property(bus, MANAGER, path, MANAGER ".Service", "IPAddressDeny", NULL, &m, "a(iayu)");
    if (r >= 0)
        r = sd_bus_message_enter_container(m, 'a', "(iayu)");
    if (r >= 0)
        r = sd_bus_message_at_end(m, false);
    return r < 0 ? r : r == 0;
}

/* ---- several units ---- */

static int ask_units(sd_bus *bus, const char *pattern, const char *state, sd_bus_message **ret) {
    _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;

    int r = sd_bus_message_new_method_call(
        bus, &m, MANAGER, MANAGER_PATH, MANAGER ".Manager", "ListUnitsByPatterns");
    if (r >= 0)
        r = sd_bus_message_append(m, "asas", 1, state, 1, pattern);
    return r < 0 ? r : sd_bus_call(bus, m, 0, NULL, ret);
}

int service_units(const char *pattern, const char *state, Buf *names) {
    _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
    _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
    const char *name;
    int n = 0;

    int r = sd_bus_open_system(&bus);
    if (r >= 0)
        r = ask_units(bus, pattern, state, &m);
    if (r >= 0)
        r = sd_bus_message_enter_container(m, 'a', "(ssssssouso)");
    while (r >= 0 && (r = sd_bus_message_read(m, "(ssssssouso)", &name, NULL, NULL, NULL, NULL, NULL, NULL,
                          NULL, NULL, NULL)) > 0)
        buf_printf(names, "%s%s", n++ > 0 ? ", " : "", name);
    return r < 0 ? r : n;
}
