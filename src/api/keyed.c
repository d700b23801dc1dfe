/* SPDX-License-Identifier: MIT */
#include "api/keyed.h"

#include "api/answer.h"
#include "api/ask.h"
#include "api/failure.h"
#include "api/known.h"
#include "api/problem.h"
#include "base/digest.h"

#define KEY_MAX 255

/* Of the answer to task_submit_keyed(). */
enum { COLUMN_VERDICT, COLUMN_IDS, COLUMN_HOLDER, COLUMN_PLACES, COLUMN_FIRST, COLUMN_TASK };

/* What is remembered of a submission until its answer. */
typedef struct Keyed {
    EnvelopeTasks all;
    bool many; /* a bulk, whatever its size */
    TaskKey key;
    char *key_text, *scope, request[DIGEST_HEX_SIZE];
} Keyed;

static Keyed *keyed_free(Keyed *k) {
    if (!k)
        return NULL;
    envelope_tasks_done(&k->all);
    free(k->key_text);
    free(k->scope);
    free(k);
    return NULL;
}

static void keyed_freep(Keyed **k) {
    keyed_free(*k);
}

bool keyed_is(HttpRequest *r, const TaskNew *task) {
    return task->unique_key || http_header(r, "Idempotency-Key");
}

/* In place. A string as of RFC 9651, section 3.3.3, which the draft of Idempotency-Key asks for, is the same key as what is
 * in it. False: it begins as one and is none. */
static bool unquote(char *key) {
    const char *from = key + 1;
    char *to = key;

    if (*key != '"')
        return true;
    for (; *from && *from != '"'; *to++ = *from++)
        if (*from == '\\' && *++from != '"' && *from != '\\')
            return false;
    bool whole = streq(from, "\"");
    *to = '\0';
    return whole;
}

static bool is_key(const char *key) {
    size_t n = 0;

    while (key[n] >= ' ' && key[n] <= '~')
        n++;
    return n > 0 && n <= KEY_MAX && !key[n];
}

/* False: r is answered. k->key.key stays NULL without the header. */
static bool read_key(HttpRequest *r, const char *body, size_t len, Keyed *k) {
    const char *key = http_header(r, "Idempotency-Key");
    Digest digest;

    if (!key)
        return true;
    if (digest_of(body, len, &digest) < 0 || string_replace(&k->key_text, key) < 0 ||
        string_replace(&k->scope, http_client(r)) < 0) {
        problem_answer(r, PROBLEM_BUSY, "out of memory");
        return false;
    }
    if (!unquote(k->key_text) || !is_key(k->key_text)) {
        problem_answer_field(r, "Idempotency-Key",
            "must be 1 to %d printable ASCII characters, bare or as one quoted string", KEY_MAX);
        return false;
    }
    k->key = (TaskKey){ .scope = k->scope, .key = k->key_text, .request = digest_hex(&digest, k->request) };
    return true;
}

static void answer_ids(HttpRequest *r, bool replayed, bool skip, const DbRows *rows) {
    static const HttpHeader headers[] = { { "Idempotency-Replayed", "true" }, {} };
    Buf body = {};

    const char *warnings = task_row_behind(rows, 0, COLUMN_TASK, 1);
    buf_printf(&body, "{\"ids\": %s", db_value(rows, 0, COLUMN_IDS));
    if (skip)
        buf_printf(&body, ", \"skipped\": %s", db_value(rows, 0, COLUMN_PLACES));
    if (warnings)
        buf_printf(&body, ", \"warnings\": %s", warnings);
    buf_puts(&body, "}\n");
    http_answer(r, replayed ? 200 : 201, "application/json", replayed ? headers : NULL, &body);
}

static void answer_first(HttpRequest *r, bool replayed, const DbRows *rows) {
    Id id;

    if (id_parse(db_value(rows, 0, COLUMN_FIRST), &id) < 0)
        return problem_answer(r, PROBLEM_INTERNAL, "The database answered without an id");
    answer_stored(r, id, replayed, db_value(rows, 0, COLUMN_TASK) ? rows : NULL, 0, COLUMN_TASK,
        task_row_behind(rows, 0, COLUMN_TASK, 0));
}

static void on_submitted(const Ask *ask, const DbRows *rows) {
    const char *verdict = db_value(rows, 0, COLUMN_VERDICT);
    const Keyed *k = ask->what;
    bool replayed = streq(verdict, "same");

    if (streq(verdict, "other"))
        return problem_answer(
            ask->request, PROBLEM_KEY_MISMATCH, "Another body came with this Idempotency-Key before");
    if (streq(verdict, "taken"))
        return problem_answer_unique(ask->request, db_value(rows, 0, COLUMN_HOLDER), k->all.list,
            k->many ? db_value(rows, 0, COLUMN_PLACES) : NULL);
    if (k->many)
        return answer_ids(ask->request, replayed, k->all.skip, rows);
    answer_first(ask->request, replayed, rows);
}

static void on_failed(const Ask *ask, const DbReply *reply) {
    if (reply->outcome == DB_LOCKED)
        problem_answer(ask->request, PROBLEM_KEY_IN_FLIGHT,
            "Another session's transaction has the key; this request waited half a second for it");
    else if (reply->outcome == DB_LOST)
        answer_lost(ask->request);
    else
        answer_refused(ask->request, reply);
}

static int send_keyed(Ask *ask, Db *db) {
    const Keyed *k = ask->what;

    return task_submit_keyed(
        db, k->key.key ? &k->key : NULL, k->all.tasks, k->all.count, k->all.skip, ask_on_reply, ask);
}

static void done(Ask *ask) {
    keyed_free((Keyed *) ask->what);
}

/* Takes k over. Of a bulk's unique_keys nothing is known here: it has a session of its own to wait on. */
static void submit(Api *api, HttpRequest *r, Keyed *k) {
    const TaskNew *task = k->all.tasks[0];
    Ask ask = { .api = api,
        .request = r,
        .use = k->many ? LINK_BULK : LINK_KEYED,
        .what = k,
        .bytes = k->all.bytes,
        .send = send_keyed,
        .answer = on_submitted,
        .failed = on_failed,
        .done = done };
    int n = 0;

    for (size_t i = 0; n >= 0 && i < k->all.count; i++)
        n = known_look(k->all.tasks[i], http_client(r), (unsigned) api->config.queue_names);
    if (n >= 0 && k->key.key)
        n = string_printf(&ask.keys[0], "Idempotency-Key %s\n%s", k->scope, k->key_text);
    if (n >= 0 && !k->many && task->unique_key)
        n = string_printf(
            &ask.keys[1], "unique_key %s\n%s", task->queue ? task->queue : "", task->unique_key);
    if (n >= 0)
        return ask_start(&ask);
    problem_answer(r, PROBLEM_BUSY, "out of memory");
    free(ask.keys[0]);
    keyed_free(k);
}

void keyed_post(Api *api, HttpRequest *r, TaskNew *task, const char *body, size_t len) {
    _cleanup_(task_new_freep) TaskNew *owned = task;
    _cleanup_(keyed_freep) Keyed *k = calloc(1, sizeof(Keyed));

    if (!k || !(k->all.tasks = malloc(sizeof(TaskNew *))))
        return problem_answer(r, PROBLEM_BUSY, "out of memory");
    k->all.bytes = strlen(task->payload);
    k->all.tasks[k->all.count++] = TAKE_PTR(owned);
    if (read_key(r, body, len, k))
        submit(api, r, TAKE_PTR(k));
}

void keyed_post_bulk(Api *api, HttpRequest *r, _unused_ const char *capture) {
    _cleanup_(keyed_freep) Keyed *k = calloc(1, sizeof(Keyed));
    _cleanup_(fields_done) Fields complaints = {};
    size_t len;
    const char *body = http_body(r, &len);

    if (!k)
        return problem_answer(r, PROBLEM_BUSY, "out of memory");
    k->many = true;
    int outcome = envelope_parse_many(body, len, &k->all, &complaints);
    if (outcome != 0)
        return answer_complaints(r, outcome, &complaints);
    if (read_key(r, body, len, k))
        submit(api, r, TAKE_PTR(k));
}
