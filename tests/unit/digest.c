/* SPDX-License-Identifier: MIT */
#include "base/digest.h"

#include "unit.h"

/* FIPS 180-4's own examples. */
static void test_known_digests(void **state) {
    static const struct {
        const char *text, *hex;
    } rows[] = {
        { "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
        { "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
        { "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
    };
    (void) state;

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        char hex[DIGEST_HEX_SIZE];
        Digest d, back;

        expect_number(rows[i].text, digest_of(rows[i].text, strlen(rows[i].text), &d), 0);
        expect_text(rows[i].text, digest_hex(&d, hex), rows[i].hex);
        expect_number(rows[i].text, digest_parse(hex, &back), 0);
        expect_true(rows[i].text, digest_equal(&d, &back));
        back.bytes[DIGEST_SIZE - 1] ^= 1;
        expect_true(rows[i].text, !digest_equal(&d, &back));
    }
}

static void test_parse(void **state) {
    static const struct {
        const char *hex;
        int r;
    } rows[] = {
        { "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855", 0 },
        { "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b85", -EINVAL },
        { "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b85g", -EINVAL },
        { "", -EINVAL },
    };
    (void) state;

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        Digest d;
        expect_number(rows[i].hex, digest_parse(rows[i].hex, &d), rows[i].r);
    }
}

static void test_random(void **state) {
    uint8_t a[DIGEST_SIZE] = {}, b[DIGEST_SIZE] = {};
    (void) state;

    assert_int_equal(digest_random(a, sizeof(a)), 0);
    assert_int_equal(digest_random(b, sizeof(b)), 0);
    assert_memory_not_equal(a, b, sizeof(a));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_digests),
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_random),
    };

    return cmocka_run_group_tests_name("digest", tests, NULL, NULL);
}
