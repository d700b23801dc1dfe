/* SPDX-License-Identifier: MIT */
#include "base/timer.h"

int timer_new(sd_event_source **ret, sd_event *event, uint64_t accuracy, sd_event_time_handler_t handler,
    void *userdata) {
    sd_event_source *timer = NULL;

    *ret = NULL;
    int r = sd_event_add_time(event, &timer, CLOCK_BOOTTIME, UINT64_MAX, accuracy, handler, userdata);
    if (r >= 0)
        r = sd_event_source_set_enabled(timer, SD_EVENT_OFF);
    if (r < 0) {
        sd_event_source_disable_unref(timer);
        return r;
    }
    *ret = timer;
    return 0;
}

int timer_start(sd_event_source *timer, uint64_t usec) {
    int r = sd_event_source_set_time_relative(timer, usec);

    return r < 0 ? r : sd_event_source_set_enabled(timer, SD_EVENT_ONESHOT);
}
