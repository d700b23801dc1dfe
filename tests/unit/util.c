/* SPDX-License-Identifier: MIT */
#include "base/util.h"

#include "unit.h"

#include <fcntl.h>

static void test_string_replace(void **state) {
    char *s = NULL;
    (void) state;

    assert_int_equal(string_replace(&s, "one"), 0);
    assert_string_equal(s, "one");
    assert_int_equal(string_replace(&s, s + 1), 0); /* of itself */
    assert_string_equal(s, "ne");

    unit_no_memory = true;
    int r = string_replace(&s, "two");
    unit_no_memory = false;
    assert_int_equal(r, -ENOMEM);
    assert_string_equal(s, "ne");

    assert_int_equal(string_replace(&s, NULL), 0);
    assert_null(s);
}

static void test_utf8_whole(void **state) {
    static const struct {
        const char *text;
        size_t whole;
    } cases[] = {
        { "", 0 },
        { "a", 1 },
        { "\xc3\xbc", 2 },
        { "a\xc3", 1 },
        { "a\xe2\x82", 1 },
        { "a\xe2\x82\xac", 4 },
        { "a\xf0\x9f\x98", 1 },
        { "\xf0\x9f\x98\x80", 4 },
        { "\x80\x80\x80\x80", 4 }, /* not to be waited for */
        { "\xc3", 0 },
    };
    (void) state;

    for (size_t i = 0; i < ELEMENTS(cases); i++)
        expect_number(cases[i].text, utf8_whole(cases[i].text, strlen(cases[i].text)), cases[i].whole);
}

static void test_utf8_add(void **state) {
    _cleanup_(buf_done) Buf b = {};
    static const char text[] = "a\0\xc3\xbc\xff\xe2\x82\xed\xa0\x80z";
    (void) state;

    utf8_add(&b, text, sizeof(text) - 1);
    assert_int_equal(buf_error(&b), 0);
    assert_string_equal(b.data, "a\ufffd\u00fc\ufffd\ufffd\ufffd\ufffd\ufffd\ufffdz");
    assert_true(utf8_valid(b.data, b.len));
}

static void test_string_printf(void **state) {
    char *s = NULL;
    (void) state;

    assert_int_equal(string_printf(&s, "%s-%d", "a", 42), 0);
    assert_string_equal(s, "a-42");
    free(s);
}

static void test_parse_uint(void **state) {
    static const struct {
        const char *text;
        uint64_t max;
        int r;
        uint64_t value;
    } rows[] = {
        { "0", 0, 0, 0 },
        { "1", 0, -ERANGE, 42 },
        { "007", 10, 0, 7 },
        { "10", 10, 0, 10 },
        { "11", 10, -ERANGE, 42 },
        { "18446744073709551615", UINT64_MAX, 0, UINT64_MAX },
        { "18446744073709551616", UINT64_MAX, -ERANGE, 42 },
        { "99999999999999999999999", UINT64_MAX, -ERANGE, 42 },
        { "", 10, -EINVAL, 42 },
        { "-1", 10, -EINVAL, 42 },
        { "+1", 10, -EINVAL, 42 },
        { " 1", 10, -EINVAL, 42 },
        { "1 ", 10, -EINVAL, 42 },
        { "1.0", 10, -EINVAL, 42 },
        { "1e1", 10, -EINVAL, 42 },
        { "0x1", 10, -EINVAL, 42 },
        { "1/", 20, -EINVAL, 42 }, /* the neighbours of 0 and 9 */
        { "1:", 20, -EINVAL, 42 },
        { "one", 10, -EINVAL, 42 },
    };
    (void) state;

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        uint64_t value = 42;
        expect_number(rows[i].text, parse_uint(rows[i].text, rows[i].max, &value), rows[i].r);
        expect_true(rows[i].text, value == rows[i].value);
    }
}

static void test_parse_size(void **state) {
    static const struct {
        const char *text;
        int r;
        uint64_t value;
    } rows[] = {
        { "0", 0, 0 },
        { "1048576", 0, 1048576 },
        { "64K", 0, 65536 },
        { "1M", 0, 1048576 },
        { "2G", 0, UINT64_C(2147483648) },
        { "1T", 0, UINT64_C(1099511627776) },
        { "16777215T", 0, UINT64_C(16777215) << 40 },
        { "16777216T", -ERANGE, 42 },
        { "18014398509481983K", 0, UINT64_MAX - 1023 },
        { "18014398509481984K", -ERANGE, 42 },
        { "18446744073709551615", 0, UINT64_MAX },
        { "18446744073709551616", -ERANGE, 42 },
        { "", -EINVAL, 42 },
        { "K", -EINVAL, 42 },
        { "1k", -EINVAL, 42 },
        { "1KB", -EINVAL, 42 },
        { "1KK", -EINVAL, 42 },
        { "1 K", -EINVAL, 42 },
        { "1.5M", -EINVAL, 42 },
        { "-1M", -EINVAL, 42 },
        { "M1", -EINVAL, 42 },
        { "1P", -EINVAL, 42 },
    };
    (void) state;

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        uint64_t value = 42;
        expect_number(rows[i].text, parse_size(rows[i].text, &value), rows[i].r);
        expect_true(rows[i].text, value == rows[i].value);
    }
}

static void test_random_u32_differs_in_all_its_bits(void **state) {
    uint32_t ones = 0, zeros = 0;
    (void) state;

    for (int n = 0; n < 64; n++) {
        uint32_t bits = random_u32();
        ones |= bits;
        zeros |= ~bits;
    }
    assert_int_equal(ones, UINT32_MAX);
    assert_int_equal(zeros, UINT32_MAX);
}

static void test_utf8_valid(void **state) {
    static const struct {
        const char *text;
        size_t len;
        bool valid;
    } rows[] = {
        { "", 0, true },
        { "a\0b", 3, true },
        { "\x7f", 1, true },
        { "\x80", 1, false },
        { "\xc1\xbf", 2, false },
        { "\xc2\x80", 2, true },
        { "\xc2\x7f", 2, false },
        { "\xc2\xc0", 2, false },
        { "\xdf\xbf", 2, true },
        { "\xc2", 1, false },
        { "\xe0\x9f\xbf", 3, false },
        { "\xe0\xa0\x80", 3, true },
        { "\xed\x9f\xbf", 3, true },
        { "\xed\xa0\x80", 3, false },
        { "\xee\x80\x80", 3, true },
        { "\xef\xbf\xbf", 3, true },
        { "\xef\xbf", 2, false },
        { "\xe2\x82\x28", 3, false },
        { "\xf0\x8f\xbf\xbf", 4, false },
        { "\xf0\x90\x80\x80", 4, true },
        { "\xf4\x8f\xbf\xbf", 4, true },
        { "\xf4\x90\x80\x80", 4, false },
        { "\xf5\x80\x80\x80", 4, false },
        { "\xf0\x90\x80", 3, false },
        { "\xf0\x90\x80\x7f", 4, false },
        { "\xff", 1, false },
        { "a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80z", 11, true },
        { "a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\xc3", 11, false },
    };
    (void) state;

    for (size_t i = 0; i < ELEMENTS(rows); i++)
        expect_number(rows[i].text, utf8_valid(rows[i].text, rows[i].len), rows[i].valid);
}

static void test_buf_grows_and_stays_terminated(void **state) {
    Buf b = {};
    (void) state;

    buf_puts(&b, "");
    assert_int_equal(b.len, 0);
    assert_string_equal(b.data, "");
    buf_add(&b, "a\0b", 3);
    buf_putc(&b, 'c');
    buf_printf(&b, "%04d", 17);
    buf_add(&b, NULL, 0);
    assert_int_equal(b.len, 8);
    assert_memory_equal(b.data, "a\0bc0017", 9);

    for (int i = 0; i < 10000; i++)
        buf_puts(&b, "0123456789");
    assert_int_equal(b.len, 100008);
    assert_int_equal(b.data[b.len], '\0');
    assert_int_equal(b.data[b.len - 1], '9');
    assert_int_equal(buf_error(&b), 0);

    char *data = b.data;
    size_t size = b.size;
    buf_clear(&b);
    assert_ptr_equal(b.data, data);
    assert_int_equal(b.size, size);
    assert_int_equal(b.len, 0);
    assert_string_equal(b.data, "");

    buf_done(&b);
    assert_null(b.data);
    assert_int_equal(b.size, 0);
    buf_done(&b);
    buf_clear(&b);
}

static void test_buf_reserve(void **state) {
    _cleanup_(buf_done) Buf b = {};
    (void) state;

    buf_puts(&b, "ab");
    char *p = buf_reserve(&b, 1000);
    assert_ptr_equal(p, b.data + 2);
    memset(p, 'x', 1000);
    buf_grew(&b, 1000);
    assert_int_equal(b.len, 1002);
    assert_int_equal(b.data[1001], 'x');
    assert_int_equal(b.data[1002], '\0');
}

static void test_buf_without_memory_stays_failed(void **state) {
    _cleanup_(buf_done) Buf b = {};
    (void) state;

    buf_puts(&b, "kept");
    unit_no_memory = true;
    for (int i = 0; i < 20; i++)
        buf_puts(&b, "too much");
    char *p = buf_reserve(&b, 1000);
    unit_no_memory = false;
    assert_null(p);
    assert_int_equal(buf_error(&b), -ENOMEM);

    size_t len = b.len;
    buf_putc(&b, 'x');
    buf_puts(&b, "x");
    buf_printf(&b, "x");
    assert_int_equal(b.len, len);
    assert_int_equal(buf_error(&b), -ENOMEM);

    buf_clear(&b);
    buf_puts(&b, "again");
    assert_int_equal(buf_error(&b), 0);
    assert_string_equal(b.data, "again");
}

static void test_buf_refuses_sizes_that_overflow(void **state) {
    static const size_t sizes[] = { SIZE_MAX, SIZE_MAX - 1, SIZE_MAX - 2 };
    (void) state;

    for (size_t i = 0; i < ELEMENTS(sizes); i++) {
        _cleanup_(buf_done) Buf b = {};
        buf_puts(&b, "ab");
        assert_null(buf_reserve(&b, sizes[i]));
        assert_int_equal(buf_error(&b), -ENOMEM);
        assert_string_equal(b.data, "ab");
    }
}

static void test_ownership_macros(void **state) {
    char *s = strdup("a"), *taken = TAKE_PTR(s);
    (void) state;

    assert_null(s);
    assert_string_equal(taken, "a");
    freep(&taken);

    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), taken_fd = TAKE_FD(fd);
    assert_int_equal(fd, -EBADF);
    assert_true(taken_fd >= 0);
    errno = EXDEV;
    assert_int_equal(close_fd(taken_fd), -EBADF);
    assert_int_equal(fcntl(taken_fd, F_GETFD), -1);
    errno = EXDEV;
    assert_int_equal(close_fd(taken_fd), -EBADF); /* which close() refuses, but errno survives */
    assert_int_equal(errno, EXDEV);
    assert_int_equal(close_fd(-EBADF), -EBADF);

    {
        _cleanup_(closep) int scoped = open("/dev/null", O_RDONLY | O_CLOEXEC);
        taken_fd = scoped;
        assert_true(scoped >= 0);
    }
    assert_int_equal(fcntl(taken_fd, F_GETFD), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_string_replace),
        cmocka_unit_test(test_utf8_whole), cmocka_unit_test(test_utf8_add), cmocka_unit_test(test_string_printf),
        cmocka_unit_test(test_parse_uint),
        cmocka_unit_test(test_parse_size),
        cmocka_unit_test(test_random_u32_differs_in_all_its_bits),
        cmocka_unit_test(test_utf8_valid),
        cmocka_unit_test(test_buf_grows_and_stays_terminated),
        cmocka_unit_test(test_buf_reserve),
        cmocka_unit_test(test_buf_without_memory_stays_failed),
        cmocka_unit_test(test_buf_refuses_sizes_that_overflow),
        cmocka_unit_test(test_ownership_macros),
    };
    return cmocka_run_group_tests_name("util", tests, NULL, NULL);
}
