/* SPDX-License-Identifier: MIT */
#include "api/ask.h"

#include "api/failure.h"
#include "api/problem.h"

/* Of one session: each may wait half a second for a row that another session holds, one behind the other. */
#define ASKING_MAX 16

Ask *ask_new(const Ask *ask) {
    size_t *asking = &ask->api->asking[ask->use];
    const Link *link = ask->api->links[ask->use];
    Ask *copy;

    if (!link_db(link)) {
        failure_answer_unusable(ask->request, link);
        return NULL;
    }
    copy = *asking < ASKING_MAX ? malloc(sizeof(Ask)) : NULL;
    if (!copy) {
        problem_answer(
            ask->request, PROBLEM_BUSY, "%zu requests of this kind are under way already", *asking);
        return NULL;
    }
    *copy = *ask;
    (*asking)++;
    return copy;
}

Db *ask_db(const Ask *ask) {
    return link_db(ask->api->links[ask->use]);
}

static void ask_free(Ask *ask) {
    ask->api->asking[ask->use]--;
    free(ask);
}

void ask_sent(Ask *ask, int r) {
    if (r >= 0)
        return;
    problem_answer(ask->request, PROBLEM_BUSY, "The request could not be sent to the database");
    ask_free(ask);
}

void ask_on_reply(_unused_ Db *db, const DbReply *reply, void *userdata) {
    Ask *ask = userdata;

    if (reply->outcome == DB_OK && db_rows(reply->rows) > 0)
        ask->answer(ask, reply->rows);
    else if (ask->failed)
        ask->failed(ask, reply);
    else
        failure_answer(ask->request, reply);
    ask_free(ask);
}
