/* SPDX-License-Identifier: MIT */
#include "base/id.h"

#include "unit.h"

#include <pthread.h>
#include <time.h>

static const Id example = { { 0x01, 0x8a, 0xea, 0x2f, 0x9c, 0x00, 0x7a, 0xbc, 0x8d, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89,
    0xfe } };

static void test_parse_takes_the_8_4_4_4_12_form_in_either_case(void **state) {
    static const char *const same[] = {
        "018aea2f-9c00-7abc-8def-0123456789fe",
        "018AEA2F-9C00-7ABC-8DEF-0123456789FE",
        "018aEA2F-9c00-7ABC-8deF-0123456789Fe",
    };
    (void) state;

    for (size_t i = 0; i < ELEMENTS(same); i++) {
        Id id = {};
        expect_number(same[i], id_parse(same[i], &id), 0);
        expect_true(same[i], id_equal(id, example));
    }
}

static void test_parse_takes_any_version(void **state) {
    static const char *const texts[] = {
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
        "550e8400-e29b-41d4-a716-446655440000",
    };
    (void) state;

    for (size_t i = 0; i < ELEMENTS(texts); i++) {
        Id id;
        expect_number(texts[i], id_parse(texts[i], &id), 0);
        expect_text(texts[i], ID_TEXT(id), texts[i]);
    }
}

static void test_parse_refuses_anything_else(void **state) {
    static const char *const texts[] = {
        "",
        "018aea2f-9c00-7abc-8def-0123456789f",      /* too short */
        "018aea2f-9c00-7abc-8def-0123456789fe0",    /* too long */
        "018aea2f-9c00-7abc-8def-0123456789fe\n",
        " 018aea2f-9c00-7abc-8def-0123456789fe",
        "018aea2f9c007abc8def0123456789fe",         /* no hyphens */
        "{018aea2f-9c00-7abc-8def-0123456789fe}",
        "urn:uuid:018aea2f-9c00-7abc-8def-0123456789fe",
        "018aea2f-9c00-7abc-8def-0123456789fg",     /* g */
        "018aea2f-9c00-7abc-8def-0123456789 e",
        "018aea2-f9c00-7abc-8def-0123456789fe",     /* a hyphen in the wrong place */
        "018aea2f-9c007-abc-8def-0123456789fe",
        "018aea2f-9c00-7abc-8def-01234567-9fe",     /* one too many */
        "018aea2f_9c00_7abc_8def_0123456789fe",
        "+18aea2f-9c00-7abc-8def-0123456789fe",
        "0x8aea2f-9c00-7abc-8def-0123456789fe",
        "018aea2f-9c00-7abc-8def-0123456789\xc3\xa4",
    };
    (void) state;

    for (size_t i = 0; i < ELEMENTS(texts); i++) {
        Id id = example;
        expect_number(texts[i], id_parse(texts[i], &id), -EINVAL);
        expect_true(texts[i], id_equal(id, example)); /* untouched */
    }
}

static void test_format_writes_lower_case(void **state) {
    char buf[ID_TEXT_SIZE];
    (void) state;

    assert_ptr_equal(id_format(example, buf), buf);
    assert_string_equal(buf, "018aea2f-9c00-7abc-8def-0123456789fe");
}

static void test_time_of_version_7_only(void **state) {
    static const struct {
        const char *text;
        int r;
        int64_t usec;
    } rows[] = {
        { "00000000-0000-7000-8000-000000000000", 0, 0 },
        { "00000000-0001-7000-8000-000000000000", 0, 1000 },
        { "018aea2f-9c00-7abc-8def-0123456789fe", 0, INT64_C(1696146103296000) },
        { "018aea2f-9c00-7fff-bfff-ffffffffffff", 0, INT64_C(1696146103296000) }, /* of the rest, nothing counts */
        { "ffffffff-ffff-7fff-bfff-ffffffffffff", 0, INT64_C(281474976710655000) },
        { "018aea2f-9c00-6abc-8def-0123456789fe", -EINVAL, -1 }, /* versions 6, 8, 4, 0 */
        { "018aea2f-9c00-8abc-8def-0123456789fe", -EINVAL, -1 },
        { "018aea2f-9c00-4abc-8def-0123456789fe", -EINVAL, -1 },
        { "00000000-0000-0000-0000-000000000000", -EINVAL, -1 },
        { "018aea2f-9c00-7abc-7def-0123456789fe", -EINVAL, -1 }, /* another variant, where versions mean nothing */
        { "018aea2f-9c00-7abc-cdef-0123456789fe", -EINVAL, -1 },
    };
    (void) state;

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        int64_t usec = -1;
        Id id;
        expect_number(rows[i].text, id_parse(rows[i].text, &id), 0);
        expect_number(rows[i].text, id_time(id, &usec), rows[i].r);
        expect_number(rows[i].text, usec, rows[i].usec);
    }
}

static int64_t now_usec(void) {
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void test_new_ids_are_version_7_of_now(void **state) {
    (void) state;

    int64_t before = now_usec() / 1000 * 1000, usec;
    Id id = id_new();
    int64_t after = now_usec();
    assert_int_equal(id_time(id, &usec), 0); /* checks version and variant */
    assert_true(usec >= before);
    assert_true(usec <= after);
}

/* So that two processes, or one before and after a restart, rarely meet in rand_a, and there is room to count. */
static void test_new_ids_begin_a_millisecond_at_random_in_the_lower_half(void **state) {
    unsigned ones = 0, zeros = 0;
    (void) state;

    for (int n = 0; n < 64; n++) {
        assert_int_equal(nanosleep(&(struct timespec) { .tv_nsec = 1000000 }, NULL), 0);
        Id id = id_new();
        unsigned rand_a = (id.bytes[6] & 0x0fU) << 8 | id.bytes[7];
        ones |= rand_a;
        zeros |= ~rand_a & 0xfff;
    }
    assert_int_equal(ones, 0x7ff);
    assert_int_equal(zeros, 0xfff);
}

static void test_new_ids_sort_in_order_of_creation(void **state) {
    enum { COUNT = 100000 }; /* many more in a millisecond than the counter holds */
    static Id ids[COUNT];
    (void) state;

    for (size_t i = 0; i < COUNT; i++)
        ids[i] = id_new();
    for (size_t i = 1; i < COUNT; i++)
        expect_true(ID_TEXT(ids[i]), id_compare(&ids[i - 1], &ids[i]) < 0);
    for (size_t i = 0; i < COUNT; i++) {
        int64_t usec;
        expect_number(ID_TEXT(ids[i]), id_time(ids[i], &usec), 0);
    }
}

static void test_new_ids_differ_in_all_their_random_bits(void **state) {
    uint8_t ones[8] = {}, zeros[8] = {};
    (void) state;

    for (int n = 0; n < 200; n++) {
        Id id = id_new();
        for (size_t i = 0; i < 8; i++) {
            ones[i] |= id.bytes[8 + i];
            zeros[i] |= (uint8_t) ~id.bytes[8 + i];
        }
    }
    assert_int_equal(ones[0], 0xbf); /* the variant stays 10 */
    assert_int_equal(zeros[0], 0x7f);
    for (size_t i = 1; i < 8; i++) {
        assert_int_equal(ones[i], 0xff);
        assert_int_equal(zeros[i], 0xff);
    }
}

enum { THREADS = 4, PER_THREAD = 20000 };

static void *make_ids(void *p) {
    Id *ids = p;

    for (size_t i = 0; i < PER_THREAD; i++)
        ids[i] = id_new();
    return NULL;
}

static void test_new_ids_of_several_threads_share_one_order(void **state) {
    static Id ids[THREADS][PER_THREAD], sorted[THREADS * PER_THREAD];
    pthread_t threads[THREADS];
    (void) state;

    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, make_ids, ids[i]), 0);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);

    memcpy(sorted, ids, sizeof(sorted));
    qsort(sorted, ELEMENTS(sorted), sizeof(Id), id_compare);
    for (size_t i = 1; i < ELEMENTS(sorted); i++) /* time and counter alone tell any two apart */
        expect_true(ID_TEXT(sorted[i]), memcmp(sorted[i - 1].bytes, sorted[i].bytes, 8) != 0);
    for (size_t t = 0; t < THREADS; t++)
        for (size_t i = 1; i < PER_THREAD; i++)
            expect_true(ID_TEXT(ids[t][i]), id_compare(&ids[t][i - 1], &ids[t][i]) < 0);
}

static void test_compare_is_byte_by_byte(void **state) {
    Id low = { { 0x01 } }, high = { { 0x80 } }, last = { { [15] = 1 } }, none = {};
    (void) state;

    assert_true(id_compare(&low, &high) < 0); /* unsigned */
    assert_true(id_compare(&high, &low) > 0);
    assert_int_equal(id_compare(&low, &low), 0);
    assert_true(id_compare(&none, &last) < 0); /* to the last byte */
    assert_true(id_equal(low, low));
    assert_false(id_equal(none, last));
    assert_false(id_equal(none, low));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_takes_the_8_4_4_4_12_form_in_either_case),
        cmocka_unit_test(test_parse_takes_any_version),
        cmocka_unit_test(test_parse_refuses_anything_else),
        cmocka_unit_test(test_format_writes_lower_case),
        cmocka_unit_test(test_time_of_version_7_only),
        cmocka_unit_test(test_new_ids_are_version_7_of_now),
        cmocka_unit_test(test_new_ids_begin_a_millisecond_at_random_in_the_lower_half),
        cmocka_unit_test(test_new_ids_sort_in_order_of_creation),
        cmocka_unit_test(test_new_ids_differ_in_all_their_random_bits),
        cmocka_unit_test(test_new_ids_of_several_threads_share_one_order),
        cmocka_unit_test(test_compare_is_byte_by_byte),
    };
    return cmocka_run_group_tests_name("id", tests, NULL, NULL);
}
