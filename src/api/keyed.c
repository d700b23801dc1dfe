/* SPDX-License-Identifier: MIT */
#include "api/keyed.h"

#include "api/ask.h"
#include "api/failure.h"
#include "api/problem.h"
#include "api/submit.h"
#include "base/digest.h"

#define KEY_MAX 255

/* Of the answer to task_submit_keyed(). */
enum { COLUMN_VERDICT, COLUMN_IDS, COLUMN_HOLDER, COLUMN_FIRST, COLUMN_TASK };

/* What is remembered of a submission until its answer. */
static const char one[] = "one", many[] = "many";

bool keyed_is(HttpRequest *r, const TaskNew *task) {
    return task->unique_key || http_header(r, "Idempotency-Key");
}

/* False: r is answered. ret->key stays NULL without the header. */
static bool read_key(
    HttpRequest *r, const char *body, size_t len, TaskKey *ret, char hex[static DIGEST_HEX_SIZE]) {
    const char *key = http_header(r, "Idempotency-Key");
    bool printable = true;
    Digest digest;

    *ret = (TaskKey){};
    if (!key)
        return true;
    for (const char *p = key; *p; p++)
        printable &= *p >= ' ' && *p <= '~';
    if (!*key || strlen(key) > KEY_MAX || !printable) {
        problem_answer_field(r, "Idempotency-Key", "must be 1 to %d printable ASCII characters", KEY_MAX);
        return false;
    }
    if (digest_of(body, len, &digest) < 0) {
        problem_answer(r, PROBLEM_BUSY, "out of memory");
        return false;
    }
    *ret = (TaskKey){ .scope = http_client(r), .key = key, .request = digest_hex(&digest, hex) };
    return true;
}

static void answer_ids(HttpRequest *r, bool replayed, const char *ids) {
    static const HttpHeader headers[] = { { "Idempotency-Replayed", "true" }, {} };
    Buf body = {};

    buf_printf(&body, "{\"ids\": %s}\n", ids);
    http_answer(r, replayed ? 200 : 201, "application/json", replayed ? headers : NULL, &body);
}

static void answer_task(HttpRequest *r, bool replayed, const DbRows *rows) {
    Id id;

    if (id_parse(db_value(rows, 0, COLUMN_FIRST), &id) < 0)
        return problem_answer(r, PROBLEM_INTERNAL, "The database answered without an id");
    submit_answer_stored(r, id, replayed, db_value(rows, 0, COLUMN_TASK) ? rows : NULL, COLUMN_TASK);
}

static void on_submitted(const Ask *ask, const DbRows *rows) {
    const char *verdict = db_value(rows, 0, COLUMN_VERDICT);
    bool replayed = streq(verdict, "same");

    if (streq(verdict, "other"))
        return problem_answer(
            ask->request, PROBLEM_KEY_MISMATCH, "Another body came with this Idempotency-Key before");
    if (streq(verdict, "taken"))
        return problem_answer_unique(ask->request, db_value(rows, 0, COLUMN_HOLDER));
    if (ask->what == many)
        return answer_ids(ask->request, replayed, db_value(rows, 0, COLUMN_IDS));
    answer_task(ask->request, replayed, rows);
}

static void on_failed(const Ask *ask, const DbReply *reply) {
    if (reply->outcome == DB_LOCKED)
        problem_answer(ask->request, PROBLEM_KEY_IN_FLIGHT,
            "Another session's transaction has the key; this request waited half a second for it");
    else
        submit_answer_refused(ask->request, reply);
}

static void submit(
    Api *api, HttpRequest *r, const TaskKey *key, TaskNew *const tasks[], size_t n, const char *what) {
    Ask *ask = ask_new(&(Ask){ .api = api,
        .request = r,
        .use = LINK_KEYED,
        .answer = on_submitted,
        .failed = on_failed,
        .what = what });

    if (ask)
        ask_sent(ask, task_submit_keyed(ask_db(ask), key->key ? key : NULL, tasks, n, ask_on_reply, ask));
}

void keyed_post(Api *api, HttpRequest *r, TaskNew *task, const char *body, size_t len) {
    _cleanup_(task_new_freep) TaskNew *owned = task;
    char hex[DIGEST_HEX_SIZE];
    TaskKey key;

    if (read_key(r, body, len, &key, hex))
        submit(api, r, &key, &owned, 1, one);
}

void keyed_post_bulk(Api *api, HttpRequest *r, _unused_ const char *capture) {
    _cleanup_(envelope_tasks_done) EnvelopeTasks all = {};
    _cleanup_(fields_done) Fields complaints = {};
    char hex[DIGEST_HEX_SIZE];
    TaskKey key;
    size_t len;
    const char *body = http_body(r, &len);

    int outcome = envelope_parse_many(body, len, &all, &complaints);
    if (outcome != 0)
        return submit_answer_envelope(r, outcome, &complaints);
    if (read_key(r, body, len, &key, hex))
        submit(api, r, &key, all.tasks, all.count, many);
}
