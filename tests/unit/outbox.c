/* SPDX-License-Identifier: MIT */
#include "base/outbox.h"

#include "unit.h"

static int put(Outbox *o, const char *text) {
    Buf b = {};

    buf_puts(&b, text);
    int r = outbox_put(o, &b);
    assert_null(b.data);
    return r;
}

static const char *all(const Outbox *o, char text[static 100]) {
    struct iovec pieces[8];
    size_t n = outbox_pieces(o, pieces, ELEMENTS(pieces)), len = 0;

    for (size_t i = 0; i < n; i++) {
        memcpy(text + len, pieces[i].iov_base, pieces[i].iov_len);
        len += pieces[i].iov_len;
    }
    text[len] = '\0';
    return text;
}

static void test_order_and_parts(void **state) {
    _cleanup_(outbox_done) Outbox o = { .max = 1000 };
    char text[100];
    (void) state;

    assert_int_equal(put(&o, "one"), 0);
    assert_int_equal(put(&o, ""), 0);
    assert_int_equal(put(&o, "two"), 0);
    assert_int_equal(put(&o, "three"), 0);
    assert_string_equal(all(&o, text), "onetwothree");
    outbox_taken(&o, 4);
    assert_string_equal(all(&o, text), "wothree");
    assert_true(outbox_begun(&o));
    outbox_taken(&o, 2);
    assert_false(outbox_begun(&o));
    outbox_taken(&o, 5);
    assert_true(outbox_empty(&o));
    assert_int_equal(o.bytes, 0);
    assert_int_equal(put(&o, "again"), 0);
    assert_string_equal(all(&o, text), "again");
}

static void test_bound(void **state) {
    _cleanup_(outbox_done) Outbox o = { .max = 10 };
    char text[100];
    (void) state;

    assert_int_equal(put(&o, "larger than all of it"), 0);
    assert_true(outbox_full(&o));
    assert_int_equal(put(&o, "x"), -ENOBUFS);
    assert_string_equal(all(&o, text), "larger than all of it");
    outbox_taken(&o, strlen(text));
    assert_int_equal(put(&o, "x"), 0);
}

static void test_no_memory(void **state) {
    _cleanup_(outbox_done) Outbox o = { .max = 1000 };
    Buf b = {};
    (void) state;

    unit_no_memory = true;
    buf_puts(&b, "x");
    assert_int_equal(outbox_put(&o, &b), -ENOMEM);
    unit_no_memory = false;
    buf_puts(&b, "x");
    unit_no_memory = true;
    int r = outbox_put(&o, &b);
    unit_no_memory = false;
    assert_int_equal(r, -ENOMEM);
    assert_true(outbox_empty(&o));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_and_parts),
        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests_name("outbox", tests, NULL, NULL);
}
