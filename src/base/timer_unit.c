/* SPDX-License-Identifier: MIT */
/*
 * systemd sets TRIGGER_UNIT= for what a timer starts (systemd.exec(5), since 252). While the service runs, the timer's
 * TimersCalendar= still holds the time that elapsed, org.freedesktop.systemd1(5); TRIGGER_TIMER_REALTIME_USEC= is when it
 * was noticed, and of an earlier run at times. Once a timer has started it, the service has TRIGGER_UNIT= even when somebody
 * starts it by hand; the timer's next time is still to come then.
 */
#include <systemd/sd-bus.h>
#include <time.h>

#include "base/service.h"

#define MANAGER "org.freedesktop.systemd1"

/* Of a timer's several OnCalendar=, the latest that is not still to come. -ENXIO: none, so the timer did not elapse. */
static int read_tick(sd_bus_message *m, uint64_t now, uint64_t *ret) {
    uint64_t usec;

    *ret = 0;
    int r = sd_bus_message_enter_container(m, 'a', "(sst)");
    while (r >= 0 && (r = sd_bus_message_read(m, "(sst)", NULL, NULL, &usec)) > 0)
        if (usec <= now)
            *ret = MAX(*ret, usec);
    return r < 0 ? r : *ret == 0 ? -ENXIO : 0;
}

int service_timer_tick(uint64_t *ret) {
    _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
    _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
    _cleanup_(freep) char *path = NULL;
    const char *unit = getenv("TRIGGER_UNIT");
    struct timespec now = {};

    if (!unit)
        return -ENXIO;
    int r = sd_bus_path_encode("/org/freedesktop/systemd1/unit", unit, &path);
    if (r >= 0)
        r = sd_bus_open_system(&bus);
    if (r >= 0)
        r = sd_bus_get_property(bus, MANAGER, path, MANAGER ".Timer", "TimersCalendar", NULL, &m, "a(sst)");
    if (r < 0)
        return r;
    (void) clock_gettime(CLOCK_REALTIME, &now);
    return read_tick(m, (uint64_t) now.tv_sec * USEC_PER_SEC + (uint64_t) now.tv_nsec / NSEC_PER_USEC, ret);
}
