/* SPDX-License-Identifier: MIT */
#include "base/time.h"

#include "unit.h"

#include <time.h>

/* Marks what a refused text must leave alone. */
#define UNTOUCHED INT64_C(-42)

#define SEC(n) ((n) * INT64_C(1000000))

typedef struct ParseRow {
    const char *text;
    int64_t usec;
} ParseRow;

static void expect_parsed(const ParseRow *rows, size_t n) {
    for (size_t i = 0; i < n; i++) {
        int64_t usec = UNTOUCHED;
        expect_number(rows[i].text, time_parse(rows[i].text, &usec), 0);
        expect_number(rows[i].text, usec, rows[i].usec);
    }
}

static void expect_refused(const char *const *texts, size_t n, int r) {
    for (size_t i = 0; i < n; i++) {
        int64_t usec = UNTOUCHED;
        expect_number(texts[i], time_parse(texts[i], &usec), r);
        expect_number(texts[i], usec, UNTOUCHED);
    }
}

static void test_parse_reads_rfc_3339(void **state) {
    static const ParseRow rows[] = {
        { "2023-10-01T10:00:00Z", SEC(1696154400) },
        { "2023-10-01t10:00:00z", SEC(1696154400) },
        { "2023-10-01 10:00:00Z", SEC(1696154400) },
        { "2023-10-01T10:00:01Z", SEC(1696154401) },
        { "2023-10-01T10:01:00Z", SEC(1696154460) },
        { "2023-10-01T23:59:59Z", SEC(1696204799) },
        { "2023-10-01T00:00:00Z", SEC(1696118400) },
        { "2016-12-31T23:59:59Z", SEC(1483228799) },
        { "2017-01-01T00:00:00Z", SEC(1483228800) },
    };
    (void) state;

    expect_parsed(rows, ELEMENTS(rows));
}

static void test_parse_takes_utc_and_no_seconds_for_granted(void **state) {
    static const ParseRow rows[] = {
        { "2023-10-01T10:00:30", SEC(1696154430) },
        { "2023-10-01T10:00", SEC(1696154400) },
        { "2023-10-01 10:00", SEC(1696154400) },
        { "2023-10-01T10:00Z", SEC(1696154400) },
        { "2023-10-01T10:00+02:00", SEC(1696147200) },
        { "2023-10-01T10:00:30.5", SEC(1696154430) + 500000 },
    };
    (void) state;

    expect_parsed(rows, ELEMENTS(rows));
}

static void test_parse_applies_offsets(void **state) {
    static const ParseRow rows[] = {
        { "2023-10-01T10:00:00+00:00", SEC(1696154400) },
        { "2023-10-01T10:00:00-00:00", SEC(1696154400) },
        { "2023-10-01T12:00:00+02:00", SEC(1696154400) },
        { "2023-10-01T04:30:00-05:30", SEC(1696154400) },
        { "2023-10-01T10:00:00+23:59", SEC(1696154400 - 86340) },
        { "2023-10-01T10:00:00-23:59", SEC(1696154400 + 86340) },
        { "2023-10-01T00:30:00+01:00", SEC(1696116600) }, /* the day before */
        { "2023-12-31T23:30:00-01:00", SEC(1704069000) }, /* the next year */
        { "2023-10-01T10:00:00.25+05:45", SEC(1696154400 - 20700) + 250000 },
    };
    (void) state;

    expect_parsed(rows, ELEMENTS(rows));
}

static void test_parse_cuts_fractions_to_microseconds(void **state) {
    static const ParseRow rows[] = {
        { "2023-10-01T10:00:00.1Z", SEC(1696154400) + 100000 },
        { "2023-10-01T10:00:00.12Z", SEC(1696154400) + 120000 },
        { "2023-10-01T10:00:00.000001Z", SEC(1696154400) + 1 },
        { "2023-10-01T10:00:00.123456Z", SEC(1696154400) + 123456 },
        { "2023-10-01T10:00:00.1234567Z", SEC(1696154400) + 123456 },
        { "2023-10-01T10:00:00.123456999Z", SEC(1696154400) + 123456 }, /* not rounded */
        { "2023-10-01T10:00:00.99999999999999999999Z", SEC(1696154400) + 999999 },
        { "2023-10-01T10:00:00.00000000000000000009", SEC(1696154400) },
        { "2023-10-01T10:00:00.0Z", SEC(1696154400) },
    };
    (void) state;

    expect_parsed(rows, ELEMENTS(rows));
}

static void test_parse_reads_a_leap_second_as_the_next_minute(void **state) {
    static const ParseRow rows[] = {
        { "2016-12-31T23:59:60Z", SEC(1483228800) },
        { "2016-12-31T23:59:60.5Z", SEC(1483228800) + 500000 },
        { "2017-01-01T00:59:60+01:00", SEC(1483228800) },
        { "2016-12-31T15:59:60.25-08:00", SEC(1483228800) + 250000 },
        { "2017-01-01T23:58:60+23:59", SEC(1483228800) },
        { "2016-12-31T00:00:60-23:59", SEC(1483228800) },
    };
    static const char *const beyond[] = { "2016-12-31T23:59:61Z", "2016-12-31T23:59:99Z",
        "1998-12-31T23:58:60Z", "1998-12-31T22:59:60Z", "1998-12-31T23:59:60+01:00",
        "1998-12-31T23:59:60-00:01" };
    (void) state;

    expect_parsed(rows, ELEMENTS(rows));
    expect_refused(beyond, ELEMENTS(beyond), -ERANGE);
}

static void test_parse_knows_the_calendar(void **state) {
    static const ParseRow rows[] = {
        { "2024-02-29T12:00:00Z", SEC(1709208000) }, /* divisible by 4 */
        { "2000-02-29T00:00:00Z", SEC(951782400) },  /* by 400 */
        { "1972-02-29T00:00:00Z", SEC(68169600) },
        { "2100-02-28T23:59:59Z", SEC(4107542399) }, /* by 100 only: no leap day */
        { "2100-03-01T00:00:00Z", SEC(4107542400) },
        { "2023-01-31T00:00:00Z", SEC(1675123200) },
        { "2023-04-30T00:00:00Z", SEC(1682812800) },
        { "2023-12-31T00:00:00Z", SEC(1703980800) },
    };
    static const char *const nowhere[] = {
        "2023-02-29T12:00:00Z",
        "2100-02-29T00:00:00Z",
        "2024-02-30T00:00:00Z",
        "2023-01-32T00:00:00Z",
        "2023-03-32T00:00:00Z",
        "2023-04-31T00:00:00Z",
        "2023-05-32T00:00:00Z",
        "2023-06-31T00:00:00Z",
        "2023-07-32T00:00:00Z",
        "2023-08-32T00:00:00Z",
        "2023-09-31T00:00:00Z",
        "2023-10-32T00:00:00Z",
        "2023-11-31T00:00:00Z",
        "2023-12-32T00:00:00Z",
        "2023-10-00T10:00:00Z",
        "2023-00-01T10:00:00Z",
        "2023-13-01T10:00:00Z",
        "2023-99-01T10:00:00Z",
        "2023-10-01T24:00:00Z",
        "2023-10-01T24:00",
        "2023-10-01T10:60:00Z",
        "2023-10-01T10:00:00+24:00",
        "2023-10-01T10:00:00-24:00",
        "2023-10-01T10:00:00+23:60",
        "2023-10-01T10:00:00+99:99",
    };
    (void) state;

    expect_parsed(rows, ELEMENTS(rows));
    expect_refused(nowhere, ELEMENTS(nowhere), -ERANGE);
}

static void test_parse_takes_years_1970_to_9999_as_utc(void **state) {
    static const ParseRow rows[] = {
        { "1970-01-01T00:00:00Z", 0 },
        { "1970-01-01T00:00:00.000001Z", 1 },
        { "1969-12-31T23:59:60Z", 0 },
        { "1969-12-31T23:30:00-00:30", 0 },
        { "1970-01-01T23:59:00+23:59", 0 },
        { "9999-12-31T23:59:59.999999Z", SEC(253402300799) + 999999 },
        { "9999-12-31T23:59:59+00:01", SEC(253402300739) },
    };
    static const char *const beyond[] = {
        "1969-12-31T23:59:59Z",
        "1969-12-31T23:59:59.999999Z",
        "1970-01-01T00:00:00+00:01",
        "9999-12-31T23:59:60Z",
        "9999-12-31T23:59:00-00:01",
        "9999-12-31T23:59:59-23:59",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00Z",
    };
    static const char *const five_digits[] = { "10000-01-01T00:00:00Z" };
    (void) state;

    expect_parsed(rows, ELEMENTS(rows));
    expect_refused(beyond, ELEMENTS(beyond), -ERANGE);
    expect_refused(five_digits, ELEMENTS(five_digits), -EINVAL);
}

static void test_parse_refuses_anything_else(void **state) {
    static const char *const texts[] = {
        "",
        "now",
        "1696154400",
        "2023",
        "2023-10",
        "2023-10-01",
        "2023-10-01T",
        "2023-10-01T10",
        "2023-10-01T10Z",
        "2023-10-01T10:",
        "2023-10-01T10:0",
        "2023-10-01T10:00:",
        "2023-10-01T10:00:0Z",
        "2023-10-01T10:00:00.",
        "2023-10-01T10:00:00.Z",
        "2023-10-01T10:00:00,5Z",  /* ISO 8601 would */
        "2023-10-01T10:00.5Z",     /* a fraction of a minute */
        "2023-10-01T10:00:00+",
        "2023-10-01T10:00:00+02",
        "2023-10-01T10:00:00+0200",
        "2023-10-01T10:00:00+2:00",
        "2023-10-01T10:00:00+02:0",
        "2023-10-01T10:00:00+02:00Z",
        "2023-10-01T10:00:00 +02:00",
        "2023-10-01T10:00:00 Z",
        "2023-10-01T10:00:00ZZ",
        "2023-10-01T10:00:00Z ",
        "2023-10-01T10:00:00Z\n",
        "2023-10-01T10:00:00Zjunk",
        "2023-10-01T10:00:00 UTC",
        "2023-10-01T10:00:00[Europe/Berlin]",
        " 2023-10-01T10:00:00Z",
        "2023-10-01  10:00:00Z",
        "2023-10-01_10:00:00Z",
        "2023/10/01T10:00:00Z",
        "20231001T100000Z",
        "23-10-01T10:00:00Z",
        "2023-1-01T10:00:00Z",
        "2023-10-1T10:00:00Z",
        "2023-10-01T1:00:00Z",
        "-2023-10-01T10:00:00Z",
        "+2023-10-01T10:00:00Z",
        "2023-10-01T-1:00:00Z",
        "2023-10-01T+1:00:00Z",
        "2023-10-01T 1:00:00Z",
        "2o23-10-01T10:00:00Z",
        "\xef\xbc\x92" "023-10-01T10:00:00Z",   /* a full-width 2 */
        "2023-10-01T10:00:00\xe2\x88\x92" "02:00", /* a minus that is no hyphen */
    };
    (void) state;

    expect_refused(texts, ELEMENTS(texts), -EINVAL);
}

static void test_format_writes_utc(void **state) {
    static const struct {
        const char *text;
        int64_t usec;
    } rows[] = {
        { "1970-01-01T00:00:00Z", 0 },
        { "2023-10-01T10:00:00Z", SEC(1696154400) },
        { "2023-10-01T10:00:00.000001Z", SEC(1696154400) + 1 },
        { "2023-10-01T10:00:00.100000Z", SEC(1696154400) + 100000 },
        { "2023-10-01T10:00:00.999999Z", SEC(1696154400) + 999999 },
        { "2024-02-29T12:00:00Z", SEC(1709208000) },
        { "2000-02-29T00:00:00Z", SEC(951782400) },
        { "2000-03-01T00:00:00Z", SEC(951868800) },
        { "2016-12-31T23:59:59Z", SEC(1483228799) },
        { "2017-01-01T00:00:00Z", SEC(1483228800) },
        { "2100-02-28T23:59:59Z", SEC(4107542399) },
        { "2100-03-01T00:00:00Z", SEC(4107542400) },
        { "9999-12-31T23:59:59.999999Z", SEC(253402300799) + 999999 },
        { "1969-12-31T23:59:59.999999Z", -1 },
        { "1969-12-31T23:59:59Z", SEC(-1) },
        { "0000-03-01T00:00:00Z", SEC(-62162035200) },
        { "0000-02-29T00:00:00Z", SEC(-62162121600) },
        { "10000-01-01T00:00:00Z", SEC(253402300800) },
        { "294247-01-10T04:00:54.775807Z", INT64_MAX },
        { "-290308-12-21T19:59:05.224192Z", INT64_MIN },
    };
    char buf[TIME_TEXT_SIZE];
    (void) state;

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        assert_ptr_equal(time_format(rows[i].usec, buf), buf);
        expect_text(rows[i].text, buf, rows[i].text);
    }
}

static void test_every_day_is_parsed_as_it_is_formatted(void **state) {
    int64_t day = INT64_C(86400000000), expected = 0;
    char buf[TIME_TEXT_SIZE];
    (void) state;

    for (; expected <= SEC(253402300799); expected += day) {
        int64_t usec = UNTOUCHED;
        time_format(expected, buf);
        expect_number(buf, time_parse(buf, &usec), 0);
        expect_number(buf, usec, expected);

        time_t seconds = (time_t) (expected / 1000000);
        struct tm tm;
        char text[TIME_TEXT_SIZE];
        assert_int_equal(strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&seconds, &tm)), 20);
        expect_text(buf, buf, text);
    }
}

static void test_span_reads_units(void **state) {
    static const struct {
        const char *text;
        uint64_t usec;
    } rows[] = {
        { "0", 0 },
        { "90", 90000000 }, /* seconds */
        { "1us", 1 },
        { "1usec", 1 },
        { "1µs", 1 },
        { "500ms", 500000 },
        { "500msec", 500000 },
        { "1s", 1000000 },
        { "1sec", 1000000 },
        { "1second", 1000000 },
        { "2seconds", 2000000 },
        { "1m", 60000000 },
        { "10min", 600000000 },
        { "1minute", 60000000 },
        { "2minutes", 120000000 },
        { "1h", UINT64_C(3600000000) },
        { "1hr", UINT64_C(3600000000) },
        { "1hour", UINT64_C(3600000000) },
        { "2hours", UINT64_C(7200000000) },
        { "1d", UINT64_C(86400000000) },
        { "1day", UINT64_C(86400000000) },
        { "30days", UINT64_C(2592000000000) },
        { "1w", UINT64_C(604800000000) },
        { "1week", UINT64_C(604800000000) },
        { "2weeks", UINT64_C(1209600000000) },
        { "0s", 0 },
        { "000010min", 600000000 },
    };
    (void) state;

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        uint64_t usec = 42;
        expect_number(rows[i].text, time_parse_span(rows[i].text, &usec), 0);
        expect_number(rows[i].text, usec, rows[i].usec);
    }
}

static void test_span_adds_up(void **state) {
    static const struct {
        const char *text;
        uint64_t usec;
    } rows[] = {
        { "1h 30min", UINT64_C(5400000000) },
        { "1h30min", UINT64_C(5400000000) },
        { "30min 1h", UINT64_C(5400000000) },
        { "1h  \t\n 30 min", UINT64_C(5400000000) },
        { " 1 h 30 min ", UINT64_C(5400000000) },
        { "5s 5s", 10000000 },
        { "55s500ms", 55500000 },
        { "1w1d1h1min1s1ms1us", UINT64_C(694861001001) },
        { " 90 ", 90000000 },
    };
    (void) state;

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        uint64_t usec = 42;
        expect_number(rows[i].text, time_parse_span(rows[i].text, &usec), 0);
        expect_number(rows[i].text, usec, rows[i].usec);
    }
}

static void test_span_takes_fractions(void **state) {
    static const struct {
        const char *text;
        uint64_t usec;
    } rows[] = {
        { "1.5h", UINT64_C(5400000000) },
        { "0.5", 500000 },
        { "0.25s", 250000 },
        { "0.000001s", 1 },
        { "0.0000019s", 1 }, /* cut */
        { "0.00000000000000000000000001s", 0 },
        { "1.9us", 1 },
        { "1.25ms 0.75ms", 2000 },
    };
    (void) state;

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        uint64_t usec = 42;
        expect_number(rows[i].text, time_parse_span(rows[i].text, &usec), 0);
        expect_number(rows[i].text, usec, rows[i].usec);
    }
}

static void test_span_infinity(void **state) {
    static const char *const texts[] = { "infinity", " infinity", "infinity \n" };
    static const char *const others[] = { "infinityx", "infinity 1s", "1s infinity", "Infinity", "inf", "infinit" };
    (void) state;

    for (size_t i = 0; i < ELEMENTS(texts); i++) {
        uint64_t usec = 42;
        expect_number(texts[i], time_parse_span(texts[i], &usec), 0);
        expect_true(texts[i], usec == UINT64_MAX);
    }
    for (size_t i = 0; i < ELEMENTS(others); i++) {
        uint64_t usec = 42;
        expect_number(others[i], time_parse_span(others[i], &usec), -EINVAL);
        expect_number(others[i], usec, 42);
    }
}

static void test_span_refuses_anything_else(void **state) {
    static const char *const texts[] = {
        "",
        " ",
        "s",
        "min 5",
        "-5s",
        "+5s",
        ".5s",
        "5.s",
        "5.",
        ".",
        "1.5.5s",
        "1,5s",
        "5x",
        "5S",
        "5Min",
        "5 minutess",
        "5minut",
        "1h 30",  /* thirty what? */
        "1h30",
        "30 1h",
        "5 6",
        "1month", /* of which month? */
        "1M",
        "1y",
        "1year",
        "1h,30min",
        "1h and 30min",
        "0x10s",
        "1e3s",
        "5\xce\xbcx",
    };
    (void) state;

    for (size_t i = 0; i < ELEMENTS(texts); i++) {
        uint64_t usec = 42;
        expect_number(texts[i], time_parse_span(texts[i], &usec), -EINVAL);
        expect_number(texts[i], usec, 42);
    }
}

static void test_span_range(void **state) {
    static const struct {
        const char *text;
        int r;
        uint64_t usec;
    } rows[] = {
        { "18446744073709551614us", 0, UINT64_MAX - 1 },
        { "18446744073709551615us", -ERANGE, 42 }, /* which means infinity */
        { "18446744073709551616us", -ERANGE, 42 },
        { "99999999999999999999999999999us", -ERANGE, 42 },
        { "18446744073709551614us 1us", -ERANGE, 42 },
        { "18446744073709551614us 2us", -ERANGE, 42 },
        { "18446744073709.551614s", 0, UINT64_MAX - 1 },
        { "18446744073709.551616s", -ERANGE, 42 }, /* only the fraction is too much */
        { "18446744073709s", 0, UINT64_C(18446744073709000000) },
        { "18446744073710s", -ERANGE, 42 },
        { "30500568w", 0, UINT64_C(18446743526400000000) },
        { "30500569w", -ERANGE, 42 },
    };
    (void) state;

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        uint64_t usec = 42;
        expect_number(rows[i].text, time_parse_span(rows[i].text, &usec), rows[i].r);
        expect_true(rows[i].text, usec == rows[i].usec);
    }
}

static uint64_t boottime_usec(void) {
    struct timespec now;

    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t) now.tv_sec * 1000000 + (uint64_t) now.tv_nsec / 1000;
}

static void test_boottime_in_microseconds(void **state) {
    (void) state;

    for (int i = 0; i < 1000; i++) {
        uint64_t before = boottime_usec(), now = time_now_boottime(), after = boottime_usec();
        assert_true(now >= before);
        assert_true(now <= after);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_reads_rfc_3339),
        cmocka_unit_test(test_parse_takes_utc_and_no_seconds_for_granted),
        cmocka_unit_test(test_parse_applies_offsets),
        cmocka_unit_test(test_parse_cuts_fractions_to_microseconds),
        cmocka_unit_test(test_parse_reads_a_leap_second_as_the_next_minute),
        cmocka_unit_test(test_parse_knows_the_calendar),
        cmocka_unit_test(test_parse_takes_years_1970_to_9999_as_utc),
        cmocka_unit_test(test_parse_refuses_anything_else),
        cmocka_unit_test(test_format_writes_utc),
        cmocka_unit_test(test_every_day_is_parsed_as_it_is_formatted),
        cmocka_unit_test(test_span_reads_units),
        cmocka_unit_test(test_span_adds_up),
        cmocka_unit_test(test_span_takes_fractions),
        cmocka_unit_test(test_span_infinity),
        cmocka_unit_test(test_span_refuses_anything_else),
        cmocka_unit_test(test_span_range),
        cmocka_unit_test(test_boottime_in_microseconds),
    };
    return cmocka_run_group_tests_name("time", tests, NULL, NULL);
}
