/* SPDX-License-Identifier: MIT */
/*
 * systemd sets TRIGGER_UNIT= for what a timer starts (systemd.exec(5), since 252). While the service runs, the timer's
 * NextElapseUSecRealtime= is still the time that it elapsed for: org.freedesktop.systemd1(5).
 */
#include <systemd/sd-bus.h>

#include "base/service.h"

#define MANAGER "org.freedesktop.systemd1"

int service_timer_tick(uint64_t *ret) {
    _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
    _cleanup_(freep) char *path = NULL;
    const char *unit = getenv("TRIGGER_UNIT");

    if (!unit)
        return -ENXIO;
    int r = sd_bus_path_encode("/org/freedesktop/systemd1/unit", unit, &path);
    if (r >= 0)
        r = sd_bus_open_system(&bus);
    if (r >= 0)
        r = sd_bus_get_property_trivial(
            bus, MANAGER, path, MANAGER ".Timer", "NextElapseUSecRealtime", NULL, 't', ret);
    if (r < 0)
        return r;
    return *ret == 0 || *ret == UINT64_MAX ? -EIO : 0;
}
