/* SPDX-License-Identifier: MIT */
#include "base/service.h"

#include "unit.h"

/* Europe/Berlin puts its clocks forward on a Sunday in March, from 02:00 to 03:00; Lord Howe Island by half an hour. */
static void test_a_tick_that_does_not_come(void **state) {
    static const struct {
        const char *expression, *time; /* NULL: all its ticks come */
    } rows[] = {
        { "*-*-* 02:30:00 Europe/Berlin", "02:00" },
        { "*-*-* 02:00:00 Europe/Berlin", "02:00" },
        { "*-*-* 03:00:00 Europe/Berlin", NULL },
        { "*-*-* 01:59:59 Europe/Berlin", NULL },
        { "Sun *-*-* 02:30:00 Europe/Berlin", "02:00" },
        { "Mon..Sat *-*-* 02:30:00 Europe/Berlin", NULL },
        { "*-12-* 02:30:00 Europe/Berlin", NULL },
        { "*-*-* *:00:00 Europe/Berlin", "02:00" },
        { "*-*-* 02:15:00 Australia/Lord_Howe", "02:00" },
        { "*-*-* 02:45:00 Australia/Lord_Howe", NULL },
        { "*-*-* 02:30:00 UTC", NULL },
    };
    (void) state;

    assert_int_equal(setenv("TZ", "America/New_York", 1), 0);
    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        char text[CALENDAR_TEXT_SIZE] = "";
        expect_number(rows[i].expression, service_calendar_gap(rows[i].expression, text), rows[i].time != NULL);
        if (rows[i].time)
            expect_text(rows[i].expression, text + strlen("2000-01-01 "), rows[i].time);
        expect_text(rows[i].expression, getenv("TZ"), "America/New_York");
    }
    char text[CALENDAR_TEXT_SIZE];
    assert_int_equal(service_calendar_gap("*-*-* 02:30:00", text), 1); /* in this host's zone */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_tick_that_does_not_come),
    };

    return cmocka_run_group_tests_name("calendar", tests, NULL, NULL);
}
