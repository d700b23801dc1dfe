/* SPDX-License-Identifier: MIT */
/*
 * A parser of its own, because strptime() reads neither offsets nor fractions, listens to the locale and
 * takes a 30th of February. No time zone but UTC is ever looked at.
 */
#include "base/time.h"

#include "base/util.h"

#include <stdio.h>
#include <time.h>

#define SECONDS_PER_DAY INT64_C(86400)
#define MINUTES_PER_DAY 1440U
#define USEC_PER_DAY    (UINT64_C(86400) * USEC_PER_SEC)

#define DIGITS "0123456789"
#define BLANKS " \t\n"

/* A date and time as written, before anybody asked whether it exists. */
typedef struct Civil {
    unsigned year, month, day, hour, minute, second, usec;
    unsigned offset_hour, offset_minute;
    bool west; /* the offset is negative */
} Civil;

static bool take(const char **p, const char *any_of) {
    if (!**p || !strchr(any_of, **p))
        return false;
    (*p)++;
    return true;
}

static bool take_number(const char **p, unsigned digits, unsigned *ret) {
    unsigned value = 0;

    for (; digits > 0; digits--, (*p)++) {
        if (**p < '0' || **p > '9')
            return false;
        value = value * 10 + (unsigned) (**p - '0');
    }
    *ret = value;
    return true;
}

/* Microseconds; digits beyond them are read and dropped. */
static bool take_fraction(const char **p, unsigned *ret) {
    size_t n = strspn(*p, DIGITS);

    *ret = 0;
    for (size_t i = 0; i < 6; i++)
        *ret = *ret * 10 + (i < n ? (unsigned) ((*p)[i] - '0') : 0);
    *p += n;
    return n > 0;
}

static bool take_date(const char **p, Civil *c) {
    return take_number(p, 4, &c->year) && take(p, "-") && take_number(p, 2, &c->month) && take(p, "-") &&
           take_number(p, 2, &c->day);
}

static bool take_time(const char **p, Civil *c) {
    if (!take_number(p, 2, &c->hour) || !take(p, ":") || !take_number(p, 2, &c->minute))
        return false;
    if (!take(p, ":"))
        return true;
    return take_number(p, 2, &c->second) && (!take(p, ".") || take_fraction(p, &c->usec));
}

static bool take_offset(const char **p, Civil *c) {
    if (!**p || take(p, "Zz"))
        return true;
    c->west = **p == '-';
    return take(p, "+-") && take_number(p, 2, &c->offset_hour) && take(p, ":") &&
           take_number(p, 2, &c->offset_minute);
}

static unsigned days_in_month(unsigned year, unsigned month) {
    static const unsigned char days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

    return month == 2 && leap ? 29 : days[month - 1];
}

/* In the last minute of a day of UTC, which alone may have a leap second (RFC 3339, section 5.7). */
static bool ends_day(const Civil *c) {
    unsigned minute = c->hour * 60 + c->minute, offset = c->offset_hour * 60 + c->offset_minute;

    return (minute + MINUTES_PER_DAY + (c->west ? offset : -offset)) % MINUTES_PER_DAY == MINUTES_PER_DAY - 1;
}

static bool exists(const Civil *c) {
    return c->month >= 1 && c->month <= 12 && c->day >= 1 && c->day <= days_in_month(c->year, c->month) &&
           c->hour <= 23 && c->minute <= 59 && c->second <= 60 && c->offset_hour <= 23 &&
           c->offset_minute <= 59 && (c->second < 60 || ends_day(c));
}

/* Days since 1970-01-01, negative before. The year is counted from March, so a leap day ends it. */
static int64_t days_from_civil(unsigned year, unsigned month, unsigned day) {
    int64_t y = (int64_t) year - (month <= 2);
    unsigned m = (month + 9) % 12;
    int64_t leap_days = (y + 400) / 4 - (y + 400) / 100 + (y + 400) / 400 - 97; /* y may be -1 */

    return y * 365 + leap_days + (153 * m + 2) / 5 + day - 1 - 719468;
}

static int64_t in_seconds(int64_t hours, int64_t minutes, int64_t seconds) {
    return (hours * 60 + minutes) * 60 + seconds;
}

int time_parse(const char *s, int64_t *ret_usec) {
    const char *p = s;
    Civil c = {};

    if (!take_date(&p, &c) || !take(&p, "Tt ") || !take_time(&p, &c) || !take_offset(&p, &c) || *p)
        return -EINVAL;
    if (!exists(&c))
        return -ERANGE;

    int64_t offset = in_seconds(c.offset_hour, c.offset_minute, 0);
    int64_t seconds = days_from_civil(c.year, c.month, c.day) * SECONDS_PER_DAY +
                      in_seconds(c.hour, c.minute, c.second) - (c.west ? -offset : offset);
    if (seconds < 0 || seconds >= days_from_civil(10000, 1, 1) * SECONDS_PER_DAY)
        return -ERANGE;
    *ret_usec = seconds * (int64_t) USEC_PER_SEC + c.usec;
    return 0;
}

/* Rounds down, so instants before 1970 come out right; *ret_rest is never negative. */
static int64_t divide(int64_t a, int64_t by, int64_t *ret_rest) {
    int64_t rest = a % by;

    *ret_rest = rest < 0 ? rest + by : rest;
    return a / by - (rest < 0);
}

const char *time_format(int64_t usec, char buf[static TIME_TEXT_SIZE]) {
    int64_t fraction, second, day, year;

    /* The other way round from days_from_civil(): eras of 400 years that begin on a first of March. */
    int64_t era = divide(
        divide(divide(usec, USEC_PER_SEC, &fraction), SECONDS_PER_DAY, &second) + 719468, 146097, &day);
    year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    day -= year * 365 + year / 4 - year / 100;
    int64_t m = (5 * day + 2) / 153;
    day -= (153 * m + 2) / 5 - 1;
    int64_t month = m < 10 ? m + 3 : m - 9;
    year += era * 400 + (month <= 2);

    int n = snprintf(buf, TIME_TEXT_SIZE, "%04d-%02d-%02dT%02d:%02d:%02d", (int) year, (int) month, (int) day,
        (int) (second / 3600), (int) (second / 60 % 60), (int) (second % 60));
    (void) snprintf(buf + n, TIME_TEXT_SIZE - (size_t) n, fraction ? ".%06dZ" : "Z", (int) fraction);
    return buf;
}

static uint64_t span_unit(const char *name, size_t len) {
    static const struct {
        const char *name;
        uint64_t usec;
    } units[] = {
        { "us", 1 },
        { "usec", 1 },
        { "µs", 1 },
        { "ms", USEC_PER_MSEC },
        { "msec", USEC_PER_MSEC },
        { "s", USEC_PER_SEC },
        { "sec", USEC_PER_SEC },
        { "second", USEC_PER_SEC },
        { "seconds", USEC_PER_SEC },
        { "m", 60 * USEC_PER_SEC },
        { "min", 60 * USEC_PER_SEC },
        { "minute", 60 * USEC_PER_SEC },
        { "minutes", 60 * USEC_PER_SEC },
        { "h", 3600 * USEC_PER_SEC },
        { "hr", 3600 * USEC_PER_SEC },
        { "hour", 3600 * USEC_PER_SEC },
        { "hours", 3600 * USEC_PER_SEC },
        { "d", USEC_PER_DAY },
        { "day", USEC_PER_DAY },
        { "days", USEC_PER_DAY },
        { "w", 7 * USEC_PER_DAY },
        { "week", 7 * USEC_PER_DAY },
        { "weeks", 7 * USEC_PER_DAY },
    };

    for (size_t i = 0; i < ELEMENTS(units); i++)
        if (strlen(units[i].name) == len && memcmp(units[i].name, name, len) == 0)
            return units[i].usec;
    return 0;
}

/* whole.fraction units, both as digits. */
static int span_scale(const char *whole, size_t whole_len, const char *fraction, size_t fraction_len,
    uint64_t unit, uint64_t *ret) {
    uint64_t value = 0;

    for (size_t i = 0; i < whole_len; i++)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, whole[i] - '0', &value))
            return -ERANGE;
    if (__builtin_mul_overflow(value, unit, &value))
        return -ERANGE;
    for (size_t i = 0; i < fraction_len && (unit /= 10) > 0; i++)
        if (__builtin_add_overflow(value, unit * (uint64_t) (fraction[i] - '0'), &value))
            return -ERANGE;
    *ret = value;
    return 0;
}

/* One "1.5 h" and the blanks behind it. Only a number that stands alone may go without its unit. */
static int span_take(const char **p, bool first, uint64_t *ret) {
    const char *whole = *p, *s = whole + strspn(whole, DIGITS);
    size_t whole_len = (size_t) (s - whole), fraction_len = 0;
    uint64_t unit = USEC_PER_SEC;

    if (*s == '.')
        fraction_len = strspn(s + 1, DIGITS);
    const char *fraction = s + 1;
    if (whole_len == 0 || (*s == '.' && fraction_len == 0))
        return -EINVAL;
    if (fraction_len > 0)
        s = fraction + fraction_len;
    s += strspn(s, BLANKS);
    size_t name_len = strcspn(s, DIGITS "." BLANKS);
    if (name_len > 0)
        unit = span_unit(s, name_len);
    else if (!first || *s)
        unit = 0;
    if (unit == 0)
        return -EINVAL;
    s += name_len;
    *p = s + strspn(s, BLANKS);
    return span_scale(whole, whole_len, fraction, fraction_len, unit, ret);
}

int time_parse_span(const char *s, uint64_t *ret_usec) {
    static const char infinity[] = "infinity";
    uint64_t total = 0, part;
    bool first = true;

    s += strspn(s, BLANKS);
    if (strncmp(s, infinity, strlen(infinity)) == 0) {
        s += strlen(infinity);
        if (s[strspn(s, BLANKS)])
            return -EINVAL;
        *ret_usec = UINT64_MAX;
        return 0;
    }
    do {
        int r = span_take(&s, first, &part);
        if (r < 0)
            return r;
        if (__builtin_add_overflow(total, part, &total) || total == UINT64_MAX)
            return -ERANGE;
        first = false;
    } while (*s);
    *ret_usec = total;
    return 0;
}

const char *time_format_span(uint64_t usec, char buf[static TIME_SPAN_SIZE]) {
    static const char *const units[] = { "d", "h", "min", "s", "ms", "us" };
    size_t i = 0;

    while (usec % span_unit(units[i], strlen(units[i])) != 0)
        i++;
    if (usec == UINT64_MAX)
        (void) snprintf(buf, TIME_SPAN_SIZE, "infinity");
    else if (usec == 0)
        (void) snprintf(buf, TIME_SPAN_SIZE, "0");
    else
        (void) snprintf(buf, TIME_SPAN_SIZE, "%ju%s",
            (uintmax_t) (usec / span_unit(units[i], strlen(units[i]))), units[i]);
    return buf;
}

static uint64_t now_of(clockid_t clock) {
    struct timespec now = {};

    (void) clock_gettime(clock, &now);
    return (uint64_t) now.tv_sec * USEC_PER_SEC + (uint64_t) now.tv_nsec / NSEC_PER_USEC;
}

uint64_t time_now_boottime(void) {
    return now_of(CLOCK_BOOTTIME);
}

uint64_t time_now_monotonic(void) {
    return now_of(CLOCK_MONOTONIC);
}

int64_t time_now(void) {
    return (int64_t) now_of(CLOCK_REALTIME);
}
