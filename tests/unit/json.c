/* SPDX-License-Identifier: MIT */
#include "base/json.h"

#include "unit.h"

#include <limits.h>
#include <math.h>

/* A text that may hold NUL. */
#define T(s) (s), sizeof(s) - 1

typedef struct Text {
    const char *text;
    size_t len;
} Text;

typedef struct WrongRow {
    const char *text;
    size_t len, offset;
    const char *why;
} WrongRow;

/* A copy without a byte behind it, so that a sanitizer sees one read too many. */
static char *exact(const char *text, size_t len) {
    char *copy = malloc(MAX(len, (size_t) 1));

    assert_non_null(copy);
    memcpy(copy, text, len);
    return copy;
}

static void expect_wrong(const WrongRow *rows, size_t n) {
    for (size_t i = 0; i < n; i++) {
        _cleanup_(freep) char *text = exact(rows[i].text, rows[i].len);
        JsonSpan value = { .text = "untouched" };
        size_t offset = 4711;
        const char *why = "none";
        expect_number(rows[i].text, json_check(text, rows[i].len, &value, &offset, &why), -EBADMSG);
        expect_text(rows[i].text, why, rows[i].why);
        expect_number(rows[i].text, offset, rows[i].offset);
        expect_text(rows[i].text, value.text, "untouched");
    }
}

static void expect_right(const Text *rows, size_t n) {
    for (size_t i = 0; i < n; i++) {
        _cleanup_(freep) char *text = exact(rows[i].text, rows[i].len);
        const char *why = "none";
        expect_number(rows[i].text, json_check(text, rows[i].len, NULL, NULL, &why), 0);
        expect_text(rows[i].text, why, "none");
    }
}

static JsonSpan checked(const char *text) {
    JsonSpan value = {};

    expect_number(text, json_check(text, strlen(text), &value, NULL, NULL), 0);
    return value;
}

static void test_check_names_the_type(void **state) {
    static const struct {
        const char *text;
        JsonType type;
        const char *name;
    } rows[] = {
        { "null", JSON_NULL, "null" },
        { "true", JSON_BOOLEAN, "a boolean" },
        { "false", JSON_BOOLEAN, "a boolean" },
        { "0", JSON_NUMBER, "a number" },
        { "-1", JSON_NUMBER, "a number" },
        { "\"\"", JSON_STRING, "a string" },
        { "[]", JSON_ARRAY, "an array" },
        { "{}", JSON_OBJECT, "an object" },
    };
    (void) state;

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        JsonSpan value = checked(rows[i].text);
        expect_number(rows[i].text, value.type, rows[i].type);
        expect_text(rows[i].text, json_type_name(value.type), rows[i].name);
    }
}

static void test_check_cuts_white_space(void **state) {
    static const char text[] = " \t\r\n{ \"a\" : [ 1 ] } \n";
    JsonSpan value;
    (void) state;

    assert_int_equal(json_check(T(text), &value, NULL, NULL), 0);
    assert_ptr_equal(value.text, text + 4);
    assert_int_equal(value.len, strlen("{ \"a\" : [ 1 ] }"));

    static const Text between[] = {
        { T("[ ]") }, { T("{\t}") }, { T("[\r1\n,\t2 ]") }, { T("{ \"a\"\n:\t1\r,\n\"b\" : 2 }") }, { T("\n\n1\n\n") },
    };
    expect_right(between, ELEMENTS(between));

    static const WrongRow other[] = { /* white space elsewhere, but not in JSON */
        { T("\v1"), 0, "expected a value" },
        { T("\f1"), 0, "expected a value" },
        { T("1\0"), 1, "something after the value" },
        { T("\xc2\xa0" "1"), 0, "expected a value" },
        { T("1\xe2\x80\xa8"), 1, "something after the value" },
        { T("/**/1"), 0, "expected a value" },
        { T("1 // one"), 2, "something after the value" },
    };
    expect_wrong(other, ELEMENTS(other));
}

static void test_check_outputs_may_be_null(void **state) {
    size_t offset = 4711;
    const char *why = NULL;
    (void) state;

    assert_int_equal(json_check(T("1"), NULL, NULL, NULL), 0);
    assert_int_equal(json_check(T("x"), NULL, NULL, NULL), -EBADMSG);
    assert_int_equal(json_check(NULL, 0, NULL, &offset, &why), -EBADMSG);
    assert_int_equal(offset, 0);
    assert_string_equal(why, "unexpected end");
}

static void test_check_one_value_and_nothing_else(void **state) {
    static const WrongRow rows[] = {
        { T(""), 0, "unexpected end" },
        { T("  "), 2, "unexpected end" },
        { T("1 2"), 2, "something after the value" },
        { T("{}{}"), 2, "something after the value" },
        { T("{},"), 2, "something after the value" },
        { T("[]]"), 2, "something after the value" },
        { T("\"a\"\""), 3, "something after the value" },
        { T("null\0"), 4, "something after the value" },
        { T("\xef\xbb\xbf{}"), 0, "a byte order mark" },
        { T(" \xef\xbb\xbf{}"), 1, "a byte order mark" },
        { T("\xef\xbb\xbf"), 0, "a byte order mark" },
        { T("\xef\xbb\xbe{}"), 0, "expected a value" },
        { T("{}\xef\xbb\xbf"), 2, "something after the value" },
        { T("\xff\xfe{\0}\0"), 0, "expected a value" }, /* UTF-16 */
    };
    (void) state;

    expect_wrong(rows, ELEMENTS(rows));
}

static void test_check_words(void **state) {
    static const WrongRow rows[] = {
        { T("tru"), 0, "expected a value" },
        { T("nul"), 0, "expected a value" },
        { T("f"), 0, "expected a value" },
        { T("True"), 0, "expected a value" },
        { T("NULL"), 0, "expected a value" },
        { T("nulll"), 4, "something after the value" },
        { T("[truefalse]"), 5, "expected ',' or ']'" },
        { T("undefined"), 0, "expected a value" },
        { T("NaN"), 0, "expected a value" },
        { T("Infinity"), 0, "expected a value" },
        { T("-Infinity"), 1, "expected a digit" },
        { T("'a'"), 0, "expected a value" },
        { T("a"), 0, "expected a value" },
    };
    (void) state;

    expect_wrong(rows, ELEMENTS(rows));
}

static void test_check_numbers(void **state) {
    static const Text right[] = {
        { T("0") }, { T("-0") }, { T("1") }, { T("-1") }, { T("10") }, { T("9007199254740993") },
        { T("0.0") }, { T("-0.5") }, { T("1.50") }, { T("1.000000000000000000000000000000000000000001") },
        { T("0e0") }, { T("1e5") }, { T("1E5") }, { T("1e+5") }, { T("1e-5") }, { T("1.5E+05") }, { T("1e00") },
        { T("1e999") }, { T("-1e999") }, { T("1e-999") }, { T("1e99999999999999999999999") },
        { T("123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890") },
    };
    static const WrongRow wrong[] = {
        { T("-"), 1, "expected a digit" },
        { T("--1"), 1, "expected a digit" },
        { T("+1"), 0, "expected a value" },
        { T("- 1"), 1, "expected a digit" },
        { T("-a"), 1, "expected a digit" },
        { T("00"), 1, "something after the value" },
        { T("01"), 1, "something after the value" },
        { T("-01"), 2, "something after the value" },
        { T("0x10"), 1, "something after the value" },
        { T(".5"), 0, "expected a value" },
        { T("-.5"), 1, "expected a digit" },
        { T("1."), 2, "expected a digit after the point" },
        { T("1.e5"), 2, "expected a digit after the point" },
        { T("1.-5"), 2, "expected a digit after the point" },
        { T("1.5.5"), 3, "something after the value" },
        { T("1,5"), 1, "something after the value" },
        { T("1e"), 2, "expected a digit in the exponent" },
        { T("1e+"), 3, "expected a digit in the exponent" },
        { T("1e-"), 3, "expected a digit in the exponent" },
        { T("1e-+5"), 3, "expected a digit in the exponent" },
        { T("1e+-5"), 3, "expected a digit in the exponent" },
        { T("1ee5"), 2, "expected a digit in the exponent" },
        { T("1e5.5"), 3, "something after the value" },
        { T("1e 5"), 2, "expected a digit in the exponent" },
        { T("1_000"), 1, "something after the value" },
        { T("1f"), 1, "something after the value" },
        { T("\xef\xbc\x91"), 0, "expected a value" }, /* a full-width 1 */
        { T("[-]"), 2, "expected a digit" },
        { T("[1 2]"), 3, "expected ',' or ']'" },
    };
    (void) state;

    expect_right(right, ELEMENTS(right));
    expect_wrong(wrong, ELEMENTS(wrong));
}

static void test_check_arrays(void **state) {
    static const Text right[] = {
        { T("[]") }, { T("[1]") }, { T("[1,\"a\",null,true,false,[],{}]") }, { T("[[],[[]],[{}]]") },
    };
    static const WrongRow wrong[] = {
        { T("["), 1, "unexpected end" },
        { T("[1"), 2, "expected ',' or ']'" },
        { T("[1,"), 3, "unexpected end" },
        { T("[1,]"), 3, "expected a value" },
        { T("[,1]"), 1, "expected a value" },
        { T("[,]"), 1, "expected a value" },
        { T("[1,,2]"), 3, "expected a value" },
        { T("[1}"), 2, "expected ',' or ']'" },
        { T("[}"), 1, "expected a value" },
        { T("[1:2]"), 2, "expected ',' or ']'" },
        { T("[\"a\":1]"), 4, "expected ',' or ']'" },
        { T("[[]"), 3, "expected ',' or ']'" },
        { T("]"), 0, "expected a value" },
        { T("[{\"a\":1]"), 7, "expected ',' or '}'" }, /* each bracket closes its own kind */
        { T("{\"a\":[1}"), 7, "expected ',' or ']'" },
    };
    (void) state;

    expect_right(right, ELEMENTS(right));
    expect_wrong(wrong, ELEMENTS(wrong));
}

static void test_check_objects(void **state) {
    static const Text right[] = {
        { T("{}") }, { T("{\"a\":1}") }, { T("{\"\":0}") }, { T("{\"a\":{\"b\":{}},\"c\":[]}") },
        { T("{\"a\":1,\"a\":2}") }, /* a key twice is the caller's business */
        { T("{\"\\u0000\":0}") },   /* so is one that no C string can carry */
    };
    static const WrongRow wrong[] = {
        { T("{"), 1, "expected a key in quotes" },
        { T("{\"a"), 3, "unfinished string" },
        { T("{\"a\""), 4, "expected ':'" },
        { T("{\"a\":"), 5, "unexpected end" },
        { T("{\"a\":1"), 6, "expected ',' or '}'" },
        { T("{\"a\":1,"), 7, "expected a key in quotes" },
        { T("{\"a\":1,}"), 7, "expected a key in quotes" },
        { T("{,}"), 1, "expected a key in quotes" },
        { T("{,\"a\":1}"), 1, "expected a key in quotes" },
        { T("{\"a\":1,,\"b\":2}"), 7, "expected a key in quotes" },
        { T("{\"a\":1 \"b\":2}"), 7, "expected ',' or '}'" },
        { T("{\"a\" 1}"), 5, "expected ':'" },
        { T("{\"a\"::1}"), 5, "expected a value" },
        { T("{\"a\"}"), 4, "expected ':'" },
        { T("{\"a\",1}"), 4, "expected ':'" },
        { T("{\"a\":}"), 5, "expected a value" },
        { T("{a:1}"), 1, "expected a key in quotes" },
        { T("{'a':1}"), 1, "expected a key in quotes" },
        { T("{1:1}"), 1, "expected a key in quotes" },
        { T("{null:1}"), 1, "expected a key in quotes" },
        { T("{\"a\":1]"), 6, "expected ',' or '}'" },
        { T("{]"), 1, "expected a key in quotes" },
        { T("{\"\xff\":1}"), 2, "invalid UTF-8" },
        { T("{\"a\":{\"\n\":1}}"), 7, "control character in a string" },
        { T("}"), 0, "expected a value" },
    };
    (void) state;

    expect_right(right, ELEMENTS(right));
    expect_wrong(wrong, ELEMENTS(wrong));
}

static void test_check_strings(void **state) {
    static const Text right[] = {
        { T("\"\"") },
        { T("\"a\"") },
        { T("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"") },
        { T("\"\\\\\"") },
        { T("\"/\"") },
        { T("\" \x7f\"") }, /* DEL is no control character here */
        { T("\"\\u0041\\u00e4\\u00E4\\uFFFF\"") },
        { T("\"\\u0000\"") },
        { T("\"\\u001f\"") },
        { T("\"\\ud83d\\ude00\"") },
        { T("\"\\uD800\\uDC00\\uDBFF\\uDFFF\"") },
        { T("\"\\ud7ff\\ue000\"") },
    };
    static const WrongRow wrong[] = {
        { T("\""), 1, "unfinished string" },
        { T("\"a"), 2, "unfinished string" },
        { T("\"\\"), 1, "unfinished string" },
        { T("\"\\\""), 3, "unfinished string" },
        { T("\"\\u0041"), 7, "unfinished string" },
        { T("\"\\ud83d\\ude00"), 13, "unfinished string" },
        { T("\"\0\""), 1, "control character in a string" },
        { T("\"a\x01\""), 2, "control character in a string" },
        { T("\"\t\""), 1, "control character in a string" },
        { T("\"\n\""), 1, "control character in a string" },
        { T("\"\x1f\""), 1, "control character in a string" },
        { T("\"\\x41\""), 1, "unknown escape in a string" },
        { T("\"\\'\""), 1, "unknown escape in a string" },
        { T("\"\\a\""), 1, "unknown escape in a string" },
        { T("\"\\0\""), 1, "unknown escape in a string" },
        { T("\"\\\0\""), 1, "unknown escape in a string" },
        { T("\"\\U0041\""), 1, "unknown escape in a string" },
        { T("\"\\\n\""), 1, "unknown escape in a string" },
        { T("\"\\u\""), 1, "expected four hexadecimal digits after \\u" },
        { T("\"\\u004\""), 1, "expected four hexadecimal digits after \\u" },
        { T("\"\\u004"), 1, "expected four hexadecimal digits after \\u" },
        { T("\"\\u004g\""), 1, "expected four hexadecimal digits after \\u" },
        { T("\"\\u 041\""), 1, "expected four hexadecimal digits after \\u" },
        { T("\"\\u+041\""), 1, "expected four hexadecimal digits after \\u" },
        { T("\"\\u00:0\""), 1, "expected four hexadecimal digits after \\u" },
        { T("\"\\u00@0\""), 1, "expected four hexadecimal digits after \\u" },
        { T("\"\\u00`0\""), 1, "expected four hexadecimal digits after \\u" },
        { T("\"\\u{41}\""), 1, "expected four hexadecimal digits after \\u" },
    };
    (void) state;

    expect_right(right, ELEMENTS(right));
    expect_wrong(wrong, ELEMENTS(wrong));
}

static void test_check_surrogates_come_in_pairs(void **state) {
    static const WrongRow rows[] = {
        { T("\"\\ud800\""), 1, "a high surrogate without a low one after it" },
        { T("\"\\udbff\""), 1, "a high surrogate without a low one after it" },
        { T("\"\\ud800"), 1, "a high surrogate without a low one after it" },
        { T("\"\\ud800x\""), 1, "a high surrogate without a low one after it" },
        { T("\"\\ud800\\n\""), 1, "a high surrogate without a low one after it" },
        { T("\"\\ud800xudc00\""), 1, "a high surrogate without a low one after it" },
        { T("\"\\ud800\\xdc00\""), 1, "a high surrogate without a low one after it" },
        { T("\"\\ud800\\u0041\""), 1, "a high surrogate without a low one after it" },
        { T("\"\\ud800\\udbff\""), 1, "a high surrogate without a low one after it" },
        { T("\"\\ud800\\ue000\""), 1, "a high surrogate without a low one after it" },
        { T("\"\\ud800\\udc0\""), 1, "a high surrogate without a low one after it" },
        { T("\"\\ud800\\udc0"), 1, "a high surrogate without a low one after it" },
        { T("\"\\ud800\\udc0g\""), 1, "a high surrogate without a low one after it" },
        { T("\"\\udc00\""), 1, "a low surrogate without a high one before it" },
        { T("\"\\udfff\""), 1, "a low surrogate without a high one before it" },
        { T("\"\\udc00\\ud800\""), 1, "a low surrogate without a high one before it" },
        { T("\"\\ud83d\\ude00\\ude00\""), 13, "a low surrogate without a high one before it" },
    };
    (void) state;

    expect_wrong(rows, ELEMENTS(rows));
}

static void test_check_utf8(void **state) {
    static const Text right[] = {
        { T("\"\xc2\x80\"") },         { T("\"\xdf\xbf\"") },         /* U+0080, U+07FF */
        { T("\"\xe0\xa0\x80\"") },     { T("\"\xed\x9f\xbf\"") },     /* U+0800, U+D7FF */
        { T("\"\xee\x80\x80\"") },     { T("\"\xef\xbf\xbf\"") },     /* U+E000, U+FFFF */
        { T("\"\xf0\x90\x80\x80\"") }, { T("\"\xf4\x8f\xbf\xbf\"") }, /* U+10000, U+10FFFF */
        { T("\"\xef\xbb\xbf\"") },                                    /* no byte order mark within a string */
        { T("\"a\xc3\xa4" "b\xe2\x82\xac\xf0\x9f\x98\x80\"") },
    };
    static const WrongRow wrong[] = {
        { T("\"\x80\""), 1, "invalid UTF-8" },             /* a continuation alone */
        { T("\"a\xbf\""), 2, "invalid UTF-8" },
        { T("\"\xc0\x80\""), 1, "invalid UTF-8" },         /* overlong NUL */
        { T("\"\xc0\xaf\""), 1, "invalid UTF-8" },         /* overlong slash */
        { T("\"\xc1\xbf\""), 1, "invalid UTF-8" },
        { T("\"\xe0\x80\xaf\""), 1, "invalid UTF-8" },
        { T("\"\xe0\x9f\xbf\""), 1, "invalid UTF-8" },
        { T("\"\xf0\x8f\xbf\xbf\""), 1, "invalid UTF-8" },
        { T("\"\xed\xa0\x80\""), 1, "invalid UTF-8" },     /* surrogates */
        { T("\"\xed\xbf\xbf\""), 1, "invalid UTF-8" },
        { T("\"\xf4\x90\x80\x80\""), 1, "invalid UTF-8" }, /* above U+10FFFF */
        { T("\"\xf5\x80\x80\x80\""), 1, "invalid UTF-8" },
        { T("\"\xf8\x88\x80\x80\x80\""), 1, "invalid UTF-8" },
        { T("\"\xfe\""), 1, "invalid UTF-8" },
        { T("\"\xff\""), 1, "invalid UTF-8" },
        { T("\"\xc3\""), 1, "invalid UTF-8" },             /* cut off */
        { T("\"\xe2\x82\""), 1, "invalid UTF-8" },
        { T("\"\xf0\x9f\x98\""), 1, "invalid UTF-8" },
        { T("\"\xf0\x9f\x98"), 1, "invalid UTF-8" },
        { T("\"\xc3x\xa4\""), 1, "invalid UTF-8" },
        { T("\"\xc3\xa4\xe2\x82\xac\xff\xc3\xa4\""), 6, "invalid UTF-8" }, /* the offset is that of the byte */
        { T("\"\xf0\x9f\x98\x80\xff\""), 5, "invalid UTF-8" },
        { T("\"\xe4\""), 1, "invalid UTF-8" },             /* Latin-1 */
    };
    (void) state;

    expect_right(right, ELEMENTS(right));
    expect_wrong(wrong, ELEMENTS(wrong));
}

static void build_nested(Buf *b, unsigned depth, const char *open, const char *close) {
    buf_clear(b);
    for (unsigned i = 0; i < depth; i++)
        buf_puts(b, open);
    buf_puts(b, "1");
    for (unsigned i = 0; i < depth; i++)
        buf_puts(b, close);
    assert_int_equal(buf_error(b), 0);
}

static void test_check_depth(void **state) {
    static const struct {
        const char *open, *close;
        size_t offset;
    } rows[] = {
        { "[", "]", 64 },
        { "{\"a\":", "}", 64 * 5 },
        { "[{\"a\":", "}]", 32 * 6 }, /* two levels each */
    };
    _cleanup_(buf_done) Buf b = {};
    (void) state;

    assert_int_equal(JSON_DEPTH_MAX, 64);
    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        unsigned step = i == 2 ? 2 : 1;
        size_t offset = 0;
        const char *why = "none";

        build_nested(&b, 64 / step, rows[i].open, rows[i].close);
        expect_number(rows[i].open, json_check(b.data, b.len, NULL, NULL, NULL), 0);
        build_nested(&b, 64 / step + 1, rows[i].open, rows[i].close);
        expect_number(rows[i].open, json_check(b.data, b.len, NULL, &offset, &why), -ELOOP);
        expect_number(rows[i].open, offset, rows[i].offset);
        expect_text(rows[i].open, why, "nested too deep");
    }

    /* Only what is open counts, and what was closed is forgotten. */
    buf_clear(&b);
    buf_puts(&b, "[[]");
    for (int i = 0; i < 1000; i++)
        buf_puts(&b, ",[{}],{\"a\":[]}");
    buf_puts(&b, "]");
    assert_int_equal(json_check(b.data, b.len, NULL, NULL, NULL), 0);

    buf_clear(&b);
    for (int i = 0; i < 1000000; i++) /* no recursion either */
        buf_puts(&b, "[");
    assert_int_equal(json_check(b.data, b.len, NULL, NULL, NULL), -ELOOP);
}

static void test_next_member_walks_in_order(void **state) {
    static const struct {
        const char *key, *value;
        JsonType type;
    } rows[] = {
        { "name", "\"a, \\\"b\\\"}\"", JSON_STRING },
        { "", "null", JSON_NULL },
        { "ä\n", "9007199254740993", JSON_NUMBER },
        { "😀", "{ \"x\" : [1, 2] }", JSON_OBJECT },
        { "name", "[{}, [] ]", JSON_ARRAY },
        { "last", "true", JSON_BOOLEAN },
    };
    JsonSpan object = checked(" { \"name\" : \"a, \\\"b\\\"}\" ,\"\":null,\"\\u00e4\\n\":9007199254740993 , "
                              "\"\\ud83d\\ude00\":{ \"x\" : [1, 2] },\"name\":[{}, [] ],\"last\":true } ");
    size_t position = 0;
    char *key;
    JsonSpan value;
    (void) state;

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        assert_int_equal(json_next_member(&object, &position, &key, &value), 1);
        expect_text(rows[i].value, key, rows[i].key);
        expect_number(rows[i].value, value.type, rows[i].type);
        expect_number(rows[i].value, value.len, strlen(rows[i].value));
        expect_true(rows[i].value, memcmp(value.text, rows[i].value, value.len) == 0);
        free(key);
    }
    for (int again = 0; again < 2; again++)
        assert_int_equal(json_next_member(&object, &position, &key, &value), 0);
}

static void test_next_member_of_an_empty_object(void **state) {
    static const char *const texts[] = { "{}", " { } ", "{\n\n}" };
    (void) state;

    for (size_t i = 0; i < ELEMENTS(texts); i++) {
        JsonSpan object = checked(texts[i]), value;
        size_t position = 0;
        char *key;
        expect_number(texts[i], json_next_member(&object, &position, &key, &value), 0);
        expect_number(texts[i], json_next_member(&object, &position, &key, &value), 0);
    }
}

static void test_next_member_cannot_carry_nul_in_a_key(void **state) {
    JsonSpan object = checked("{\"a\\u0000b\":1,\"c\":2}"), value = { .text = "untouched" };
    size_t position = 0;
    char *key = NULL;
    (void) state;

    assert_int_equal(json_next_member(&object, &position, &key, &value), -EBADMSG);
    assert_null(key);
    assert_string_equal(value.text, "untouched");
}

static void test_next_element_walks_in_order(void **state) {
    static const struct {
        const char *value;
        JsonType type;
    } rows[] = {
        { "1", JSON_NUMBER },
        { "\"],\"", JSON_STRING },
        { "[2, 3]", JSON_ARRAY },
        { "{\"a\":[4]}", JSON_OBJECT },
        { "null", JSON_NULL },
        { "false", JSON_BOOLEAN },
        { "-0.5e1", JSON_NUMBER },
    };
    JsonSpan array = checked("[ 1,\"],\" , [2, 3],{\"a\":[4]}\n,\tnull,false,-0.5e1 ]"), value;
    size_t position = 0;
    (void) state;

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        assert_int_equal(json_next_element(&array, &position, &value), 1);
        expect_number(rows[i].value, value.type, rows[i].type);
        expect_number(rows[i].value, value.len, strlen(rows[i].value));
        expect_true(rows[i].value, memcmp(value.text, rows[i].value, value.len) == 0);
    }
    for (int again = 0; again < 2; again++)
        assert_int_equal(json_next_element(&array, &position, &value), 0);

    array = checked("[ ]");
    position = 0;
    assert_int_equal(json_next_element(&array, &position, &value), 0);
    assert_int_equal(json_next_element(&array, &position, &value), 0);
}

static void test_walks_descend(void **state) {
    JsonSpan array = checked("[[[7]]]"), value;
    long long number = 0;
    (void) state;

    for (int depth = 0; depth < 3; depth++) {
        size_t position = 0;
        assert_int_equal(json_next_element(&array, &position, &value), 1);
        array = value;
    }
    assert_int_equal(json_whole(&value, &number), 0);
    assert_int_equal(number, 7);
}

/* Spans that nobody checked are a mistake of the caller, but not one that reads beyond them. */
static void test_walks_survive_unchecked_spans(void **state) {
    static const char *const texts[] = { "{\"a", "{\"a\"", "{\"a\":", "{\"a\":x}", "{\"a\":1", "{", "[1", "[x]", "[" };
    (void) state;

    for (size_t i = 0; i < ELEMENTS(texts); i++) {
        size_t len = strlen(texts[i]), position = 0;
        _cleanup_(freep) char *text = exact(texts[i], len);
        JsonSpan container = { .text = text, .len = len }, value;
        char *key = NULL;
        int r = texts[i][0] == '{' ? json_next_member(&container, &position, &key, &value)
                                   : json_next_element(&container, &position, &value);
        expect_true(texts[i], r == 1 || r == 0 || r == -EBADMSG);
        free(key);
    }
}

static void test_string_decodes(void **state) {
    static const struct {
        const char *json, *text;
    } rows[] = {
        { "\"\"", "" },
        { "\"plain\"", "plain" },
        { "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t" },
        { "\"a\\nb\\tc\"", "a\nb\tc" },
        { "\"\\\\u0041\"", "\\u0041" }, /* an escaped backslash, no escape */
        { "\"\\\\\\u0041\"", "\\A" },
        { "\"\\u0001\\u007f\"", "\x01\x7f" },
        { "\"\\u0080\\u07ff\"", "\xc2\x80\xdf\xbf" },
        { "\"\\u0800\\uffff\"", "\xe0\xa0\x80\xef\xbf\xbf" },
        { "\"\\ud7ff\\ue000\"", "\xed\x9f\xbf\xee\x80\x80" },
        { "\"\\ud800\\udc00\"", "\xf0\x90\x80\x80" },
        { "\"\\udbff\\udfff\"", "\xf4\x8f\xbf\xbf" },
        { "\"\\uD83D\\uDE00!\"", "😀!" },
        { "\"\\u00E4\\u00e4\"", "ää" },
        { "\"Grüße, 世界\"", "Grüße, 世界" },
    };
    (void) state;

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        JsonSpan value = checked(rows[i].json);
        _cleanup_(freep) char *text = NULL;
        expect_number(rows[i].json, json_string(&value, &text), 0);
        expect_text(rows[i].json, text, rows[i].text);
    }
}

static void test_string_refuses_nul_and_other_types(void **state) {
    static const struct {
        const char *json;
        int r;
    } rows[] = {
        { "\"\\u0000\"", -EBADMSG }, { "\"a\\u0000b\"", -EBADMSG }, { "null", -EINVAL }, { "1", -EINVAL },
        { "true", -EINVAL },         { "[\"a\"]", -EINVAL },        { "{\"a\":\"b\"}", -EINVAL },
    };
    (void) state;

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        JsonSpan value = checked(rows[i].json);
        char *text = NULL;
        expect_number(rows[i].json, json_string(&value, &text), rows[i].r);
        expect_true(rows[i].json, text == NULL);
    }
}

static void test_double(void **state) {
    static const struct {
        const char *json;
        int r;
        double number;
    } rows[] = {
        { "0", 0, 0 },
        { "-1.5", 0, -1.5 },
        { "1e3", 0, 1000 },
        { "1E-3", 0, 0.001 },
        { "9007199254740993", 0, 9007199254740992 }, /* no double is nearer */
        { "1.7976931348623157e308", 0, 1.7976931348623157e308 },
        { "1e-999", 0, 0 },
        { "0.1000000000000000055511151231257827021181583404541015625", 0, 0.1 },
        { "1e999", -ERANGE, -42 },
        { "-1e999", -ERANGE, -42 },
        { "\"1\"", -EINVAL, -42 },
        { "null", -EINVAL, -42 },
        { "true", -EINVAL, -42 },
        { "[1]", -EINVAL, -42 },
    };
    (void) state;

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        JsonSpan value = checked(rows[i].json);
        double number = -42;
        expect_number(rows[i].json, json_double(&value, &number), rows[i].r);
        expect_true(rows[i].json, number == rows[i].number); /* exactly */
    }

    JsonSpan value = checked("-0"); /* which keeps its sign */
    double number = 1;
    assert_int_equal(json_double(&value, &number), 0);
    assert_true(number == 0 && signbit(number));

    JsonSpan array = checked("[12,3]"); /* the number ends where it ends */
    size_t position = 0;
    assert_int_equal(json_next_element(&array, &position, &value), 1);
    assert_int_equal(json_double(&value, &number), 0);
    assert_true(number == 12);
}

static void test_whole(void **state) {
    static const struct {
        const char *json;
        int r;
        long long number;
    } rows[] = {
        { "0", 0, 0 },
        { "-0", 0, 0 },
        { "1", 0, 1 },
        { "-17", 0, -17 },
        { "9007199254740993", 0, 9007199254740993 }, /* not a digit is lost */
        { "9223372036854775807", 0, LLONG_MAX },
        { "9223372036854775808", -ERANGE, -42 },
        { "-9223372036854775808", 0, LLONG_MIN },
        { "-9223372036854775809", -ERANGE, -42 },
        { "99999999999999999999", -ERANGE, -42 },
        { "1.0", 0, 1 },
        { "-1.000", 0, -1 },
        { "1.5", -ERANGE, -42 },
        { "1.0000000000000000000000000000000000000000001", -ERANGE, -42 },
        { "1e3", 0, 1000 },
        { "1E+3", 0, 1000 },
        { "1.5e1", 0, 15 },
        { "1.25e1", -ERANGE, -42 },
        { "1e-1", -ERANGE, -42 },
        { "10e-1", 0, 1 },
        { "1200e-2", 0, 12 },
        { "0.5", -ERANGE, -42 },
        { "0.05e2", 0, 5 },
        { "0.05e1", -ERANGE, -42 },
        { "1e18", 0, 1000000000000000000 },
        { "1e19", -ERANGE, -42 },
        { "-9.223372036854775808e18", 0, LLONG_MIN },
        { "0e999999999999999999999999999999", 0, 0 },
        { "0.0e-999999999999999999999999999999", 0, 0 },
        { "1e999999999999999999999999999999", -ERANGE, -42 },
        { "1e-999999999999999999999999999999", -ERANGE, -42 },
        { "\"1\"", -EINVAL, -42 },
        { "true", -EINVAL, -42 },
        { "null", -EINVAL, -42 },
        { "{}", -EINVAL, -42 },
    };
    (void) state;

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        JsonSpan value = checked(rows[i].json);
        long long number = -42;
        expect_number(rows[i].json, json_whole(&value, &number), rows[i].r);
        expect_number(rows[i].json, number, rows[i].number);
    }
}

static void test_write_string(void **state) {
    static const struct {
        const char *text;
        size_t len;
        const char *json;
    } rows[] = {
        { T(""), "\"\"" },
        { T("plain"), "\"plain\"" },
        { T("\"quoted\" \\ / "), "\"\\\"quoted\\\" \\\\ / \"" },
        { T("\b\f\n\r\t"), "\"\\b\\f\\n\\r\\t\"" },
        { T("\x01\x07\x0b\x1f"), "\"\\u0001\\u0007\\u000b\\u001f\"" },
        { T(" ~\x7f"), "\" ~\x7f\"" },
        { T("Grüße, 世界 😀"), "\"Grüße, 世界 😀\"" },
        { T("a\0b"), "\"a\xef\xbf\xbd" "b\"" },
        { T("\0"), "\"\xef\xbf\xbd\"" },
        { T("\xff"), "\"\xef\xbf\xbd\"" },
        { T("a\xe4" "b"), "\"a\xef\xbf\xbd" "b\"" },                              /* Latin-1 */
        { T("ä\xe4ö"), "\"ä\xef\xbf\xbdö\"" },                                    /* its neighbours survive */
        { T("€\xe4😀\xff"), "\"€\xef\xbf\xbd😀\xef\xbf\xbd\"" },
        { T("\xc0\xaf"), "\"\xef\xbf\xbd\xef\xbf\xbd\"" },                        /* overlong, byte by byte */
        { T("\xed\xa0\x80"), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"" },        /* a surrogate */
        { T("\xf0\x9f\x98"), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"" },        /* cut off */
        { T("\xf0\x9f\x98\n"), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\\n\"" },
        { T("\xf4\x90\x80\x80!"), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd!\"" },
    };
    (void) state;

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        _cleanup_(freep) char *text = exact(rows[i].text, rows[i].len);
        _cleanup_(buf_done) Buf b = {};
        json_write_string(&b, text, rows[i].len);
        assert_int_equal(buf_error(&b), 0);
        expect_text(rows[i].json, b.data, rows[i].json);
        expect_number(rows[i].json, json_check_jsonb(b.data, b.len, NULL), 0);
    }

    _cleanup_(buf_done) Buf b = {};
    buf_puts(&b, "[");
    json_write_string(&b, NULL, 0);
    assert_string_equal(b.data, "[\"\"");
}

static void test_write_string_is_read_back_byte_by_byte(void **state) {
    (void) state;

    for (int c = 1; c < 0x80; c++) {
        char text[] = { 'a', (char) c, 'b', (char) c, '\0' };
        _cleanup_(buf_done) Buf b = {};
        _cleanup_(freep) char *back = NULL;
        json_write_string(&b, text, 4);
        JsonSpan value = checked(b.data);
        assert_int_equal(json_string(&value, &back), 0);
        assert_string_equal(back, text);
        /* Only what must be escaped is. */
        assert_int_equal(b.len == 6, c >= 0x20 && c != '"' && c != '\\');
    }
}

static void test_check_jsonb_refuses_what_jsonb_refuses(void **state) {
    static const struct {
        const char *json;
        int r;
        const char *why;
    } rows[] = {
        { "{\"a\":[1,\"\\u0001\",null]}", 0, "none" },
        { "\"\\u0000\"", -EBADMSG, "\\u0000 cannot be stored" },
        { "{\"a\\u0000\":1}", -EBADMSG, "\\u0000 cannot be stored" },
        { "\"\\\\u0000\"", 0, "none" }, /* an escaped backslash */
        { "[1,]", -EBADMSG, "expected a value" },
        { "1e131071", 0, "none" }, /* 131072 digits before the point */
        { "1e131072", -EBADMSG, "number too large or too precise to be stored" },
        { "-9.99e131071", 0, "none" },
        { "10e131070", 0, "none" },
        { "10e131071", -EBADMSG, "number too large or too precise to be stored" },
        { "0.001e131074", 0, "none" },
        { "0.001e131075", -EBADMSG, "number too large or too precise to be stored" },
        { "0e131072", 0, "none" }, /* zero has no digits */
        { "1e-16383", 0, "none" }, /* 16383 digits after the point */
        { "1e-16384", -EBADMSG, "number too large or too precise to be stored" },
        { "1.5e-16382", 0, "none" },
        { "1.5e-16383", -EBADMSG, "number too large or too precise to be stored" },
        { "1.50e-16382", -EBADMSG, "number too large or too precise to be stored" }, /* zeros are kept, too */
        { "0e-16384", -EBADMSG, "number too large or too precise to be stored" },
        { "0e1073741822", 0, "none" },
        { "0e1073741823", -EBADMSG, "number too large or too precise to be stored" },
        { "0e99999999999999999999", -EBADMSG, "number too large or too precise to be stored" },
        { "1E999", 0, "none" },
        { "[1,2e999999,3]", -EBADMSG, "number too large or too precise to be stored" },
    };
    (void) state;

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        _cleanup_(freep) char *text = exact(rows[i].json, strlen(rows[i].json));
        const char *why = "none";
        expect_number(rows[i].json, json_check_jsonb(text, strlen(rows[i].json), &why), rows[i].r);
        expect_text(rows[i].json, why, rows[i].why);
    }
}

static void test_check_jsonb_counts_digits(void **state) {
    static const struct {
        size_t digits;
        const char *before;
        int r;
    } rows[] = { { 131072, "", 0 }, { 131073, "", -EBADMSG }, { 16383, "0.", 0 }, { 16384, "0.", -EBADMSG } };
    (void) state;

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        _cleanup_(buf_done) Buf b = {};
        buf_puts(&b, rows[i].before);
        for (size_t n = 0; n < rows[i].digits; n++)
            buf_putc(&b, '7');
        expect_number(rows[i].before, json_check(b.data, b.len, NULL, NULL, NULL), 0);
        expect_number(rows[i].before, json_check_jsonb(b.data, b.len, NULL), rows[i].r);
    }
}

/* 1e131071 is eight bytes, and 131072 when jsonb writes it. */
static void test_check_jsonb_bounds_what_it_grows_to(void **state) {
    (void) state;

    for (size_t n = 8; n <= 9; n++) {
        _cleanup_(buf_done) Buf b = {};
        const char *why = "none";
        for (size_t i = 0; i < n; i++)
            buf_puts(&b, i == 0 ? "[1e131071" : ",1e131071");
        buf_puts(&b, ",1e-9,0e9,7]");
        expect_number(b.data, json_check_jsonb(b.data, b.len, &why), n == 8 ? 0 : -EBADMSG);
        expect_text(b.data, why, n == 8 ? "none" : "numbers that take over 1 MiB more without their exponents");
    }
}

static void test_no_memory(void **state) {
    JsonSpan string = checked("\"a\""), number = checked("1"), object = checked("{\"a\":1}"), value;
    size_t position = 0;
    char *text = NULL;
    double d = -42;
    Buf b = {};
    (void) state;

    unit_no_memory = true;
    int string_r = json_string(&string, &text);
    int number_r = json_double(&number, &d);
    int member_r = json_next_member(&object, &position, &text, &value);
    json_write_string(&b, "a\nb\xff", 4);
    unit_no_memory = false;
    assert_int_equal(string_r, -ENOMEM);
    assert_int_equal(number_r, -ENOMEM);
    assert_int_equal(member_r, -ENOMEM);
    assert_int_equal(buf_error(&b), -ENOMEM);
    assert_null(text);
    assert_true(d == -42);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check_names_the_type),
        cmocka_unit_test(test_check_cuts_white_space),
        cmocka_unit_test(test_check_outputs_may_be_null),
        cmocka_unit_test(test_check_one_value_and_nothing_else),
        cmocka_unit_test(test_check_words),
        cmocka_unit_test(test_check_numbers),
        cmocka_unit_test(test_check_arrays),
        cmocka_unit_test(test_check_objects),
        cmocka_unit_test(test_check_strings),
        cmocka_unit_test(test_check_surrogates_come_in_pairs),
        cmocka_unit_test(test_check_utf8),
        cmocka_unit_test(test_check_depth),
        cmocka_unit_test(test_next_member_walks_in_order),
        cmocka_unit_test(test_next_member_of_an_empty_object),
        cmocka_unit_test(test_next_member_cannot_carry_nul_in_a_key),
        cmocka_unit_test(test_next_element_walks_in_order),
        cmocka_unit_test(test_walks_descend),
        cmocka_unit_test(test_walks_survive_unchecked_spans),
        cmocka_unit_test(test_string_decodes),
        cmocka_unit_test(test_string_refuses_nul_and_other_types),
        cmocka_unit_test(test_double),
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_write_string),
        cmocka_unit_test(test_write_string_is_read_back_byte_by_byte),
        cmocka_unit_test(test_check_jsonb_refuses_what_jsonb_refuses),
        cmocka_unit_test(test_check_jsonb_counts_digits),
        cmocka_unit_test(test_check_jsonb_bounds_what_it_grows_to),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
