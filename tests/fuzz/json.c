/* SPDX-License-Identifier: MIT */
/*
 * Whatever json_check() accepts, cJSON must accept, too, and both must see the same tree. Whatever bytes
 * json_write_string() gets, json_check() must accept what it wrote and json_string() must read it back.
 */
#include "base/json.h"

#include "fuzz.h"

#include <cjson/cJSON.h>
#include <math.h>

/* cJSON reads no longer numbers than this. */
#define CJSON_NUMBER_MAX 62

static int cjson_type(JsonType type, const JsonSpan *value) {
    static const int types[] = {
        [JSON_NULL] = cJSON_NULL,
        [JSON_NUMBER] = cJSON_Number,
        [JSON_STRING] = cJSON_String,
        [JSON_ARRAY] = cJSON_Array,
        [JSON_OBJECT] = cJSON_Object,
    };

    if (type == JSON_BOOLEAN)
        return value->text[0] == 't' ? cJSON_True : cJSON_False;
    return types[type];
}

static void compare_string(const JsonSpan *value, const cJSON *peer) {
    _cleanup_(freep) char *s = NULL;
    int r = json_string(value, &s);

    must(r == 0 || r == -EBADMSG);
    if (r == 0)
        must(streq(s, peer->valuestring));
}

static void compare_number(const JsonSpan *value, const cJSON *peer) {
    double d;
    long long whole;
    int r = json_double(value, &d);

    must(r == 0 || r == -ERANGE);
    if (r == 0)
        must(d == peer->valuedouble);
    else
        must(isinf(peer->valuedouble));

    int whole_r = json_whole(value, &whole);
    must(whole_r == 0 || whole_r == -ERANGE);
    if (whole_r == 0)
        must(r == 0 && (double) whole == d);
    else if (r == 0 && fabs(d) < 0x1p53 && d != 0)
        must(floor(d) != d || memchr(value->text, '.', value->len) || memchr(value->text, '-', value->len));
}

/* Recursion is fine here: json_check() has bounded the depth. */
static void compare(const JsonSpan *value, const cJSON *peer) {
    const cJSON *child = peer->child;
    size_t position = 0;
    JsonSpan part;
    int r = 0;

    must((peer->type & 0xff) == cjson_type(value->type, value));
    if (value->type == JSON_STRING)
        compare_string(value, peer);
    else if (value->type == JSON_NUMBER)
        compare_number(value, peer);
    else if (value->type == JSON_ARRAY)
        for (; (r = json_next_element(value, &position, &part)) > 0; child = child->next)
            compare(&part, child);
    else if (value->type == JSON_OBJECT)
        for (;; child = child->next) {
            _cleanup_(freep) char *key = NULL;
            r = json_next_member(value, &position, &key, &part);
            if (r <= 0)
                break;
            must(streq(key, child->string));
            compare(&part, child);
        }
    must(r == 0 || r == -EBADMSG);
    if (r == 0)
        must(!child || value->type < JSON_ARRAY);
}

static bool has_long_number(const char *text, size_t len) {
    size_t run = 0;

    for (size_t i = 0; i < len; i++) {
        run = memchr("0123456789+-.eE", text[i], 15) ? run + 1 : 0;
        if (run > CJSON_NUMBER_MAX)
            return true;
    }
    return false;
}

static void check_reading(const char *text, size_t len) {
    JsonSpan value;
    size_t offset = SIZE_MAX;
    const char *why = NULL;
    int r = json_check(text, len, &value, &offset, &why);

    if (r < 0) {
        must(r == -EBADMSG || r == -ELOOP);
        must(offset <= len);
        must(why && *why);
        must(json_check_jsonb(text, len, NULL) < 0);
        return;
    }
    must(utf8_valid(text, len));
    must(value.text >= text && value.len > 0 && value.text + value.len <= text + len);
    must(json_check(value.text, value.len, NULL, NULL, NULL) == 0);
    if (has_long_number(text, len))
        return;

    cJSON *peer = cJSON_ParseWithLength(value.text, value.len);
    must(peer);
    compare(&value, peer);
    cJSON_Delete(peer);
}

static void check_writing(const char *text, size_t len) {
    _cleanup_(buf_done) Buf b = {};
    _cleanup_(freep) char *back = NULL;
    JsonSpan value;

    json_write_string(&b, text, len);
    must(buf_error(&b) == 0);
    must(json_check(b.data, b.len, &value, NULL, NULL) == 0);
    must(value.type == JSON_STRING && value.len == b.len);
    must(json_check_jsonb(b.data, b.len, NULL) == 0);
    must(json_string(&value, &back) == 0);
    if (utf8_valid(text, len) && !memchr(text, 0, len))
        must(strlen(back) == len && memcmp(back, text, len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0)
        data = (const uint8_t *) "";
    check_reading((const char *) data, size);
    check_writing((const char *) data, size);
    return 0;
}
