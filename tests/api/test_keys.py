# SPDX-License-Identifier: MIT
"""Submissions that can be repeated, that are unique, and that come many at once."""

import json
import threading
from collections.abc import Callable

import psycopg
import pytest

from support.api import Answer, Client
from support.process import eventually

TASK = {"name": "t", "payload": {"n": 1}}


def count(db: psycopg.Connection) -> int:
    return db.execute("SELECT count(*) FROM pgmill.tasks").fetchone()[0]


# ---- Idempotency-Key ----


def test_the_same_request_is_the_same_task(api: Client, db: psycopg.Connection) -> None:
    first = api.post(TASK, Idempotency_Key="order 7")
    again = api.post(TASK, expect=200, Idempotency_Key="order 7")
    assert again.json["id"] == first.json["id"] and count(db) == 1
    assert again.headers["Idempotency-Replayed"] == "true" and "Idempotency-Replayed" not in first.headers
    assert again.headers["Location"] == first.headers["Location"] == f"/api/tasks/{first.json['id']}"


def test_another_request_under_the_same_key_is_refused(api: Client, db: psycopg.Connection) -> None:
    api.post(TASK, Idempotency_Key="k")
    for other in (TASK | {"payload": 2}, json.dumps(TASK) + " "):  # byte for byte
        answer = api.post(other, expect=422, Idempotency_Key="k")
        assert answer.json["type"].endswith("#idempotency-mismatch")
    assert count(db) == 1


def test_a_key_outlives_its_task(api: Client, db: psycopg.Connection) -> None:
    first = api.post(TASK, Idempotency_Key="k").json["id"]
    api.patch(f"/api/tasks/{first}/cancel")
    again = api.post(TASK, expect=200, Idempotency_Key="k")
    assert (again.json["id"], again.json["status"]) == (first, "CANCELLED")


def test_a_key_in_flight_is_a_conflict(api: Client, connect: Callable[..., psycopg.Connection]) -> None:
    other = connect(autocommit=False)
    other.execute("INSERT INTO pgmill.idempotency (scope, key, request, tasks, expires_at)"
                  " VALUES ('', 'k', '\\x00', '{}', now() + interval '1 day')")
    answer = api.post(TASK, expect=409, Idempotency_Key="k")
    assert answer.json["type"].endswith("#idempotency-in-flight")
    other.rollback()
    api.post(TASK, Idempotency_Key="k")


@pytest.mark.parametrize("key", ["", "x" * 256, "Schl\u00fcssel"])
def test_a_key_must_be_printable_and_short(api: Client, key: str) -> None:
    assert api.post(TASK, expect=422, Idempotency_Key=key).fields == ["Idempotency-Key"]


def test_many_at_once_under_one_key_are_one_task(start_api: Callable, db: psycopg.Connection) -> None:
    api, ids, statuses = start_api(), [], []

    def submit() -> None:
        client = api.client()
        answer = client.send("POST", "/api/tasks/", TASK, Idempotency_Key="k")
        statuses.append(answer.status)
        ids.append(answer.json["id"])
        client.close()

    threads = [threading.Thread(target=submit) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] * 11 + [201] and len(set(ids)) == count(db) == 1


def test_an_answer_that_was_lost_is_found_out(
        start_api: Callable, connect: Callable[..., psycopg.Connection], db: psycopg.Connection) -> None:
    api, answers = start_api(), []
    other = connect(autocommit=False)
    other.execute("INSERT INTO pgmill.idempotency (scope, key, request, tasks, expires_at)"
                  " VALUES ('', 'k', '\\x00', '{}', now() + interval '1 day')")
    thread = threading.Thread(target=lambda: answers.append(api.client().post(TASK, None, Idempotency_Key="k")))
    thread.start()
    waiting = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'" \
              " AND application_name LIKE 'pgmill-api%'"
    eventually(lambda: db.execute(waiting).fetchone())
    other.rollback()
    thread.join()
    assert answers[0].status == 201 and count(db) == 1


def test_who_waits_for_a_key_holds_nobody_up(
        start_api: Callable, connect: Callable[..., psycopg.Connection]) -> None:
    api, order = start_api(), []
    other = connect(autocommit=False)
    other.execute("INSERT INTO pgmill.idempotency (scope, key, request, tasks, expires_at)"
                  " VALUES ('', 'k', '\\x00', '{}', now() + interval '1 day')")

    def submit(key: str) -> None:
        order.append((key, api.client().post(TASK, None, Idempotency_Key=key).status))

    threads = [threading.Thread(target=submit, args=[key]) for key in ["k"] * 20 + [str(n) for n in range(20)]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(order) == sorted([("k", 409)] * 20 + [(str(n), 201) for n in range(20)])


# ---- unique_key ----


def test_a_queue_holds_one_unfinished_task_of_a_key(api: Client, db: psycopg.Connection) -> None:
    first = api.post(TASK | {"unique_key": "invoice 7"}).json
    assert first["unique_key"] == "invoice 7"
    answer = api.post(TASK | {"unique_key": "invoice 7"}, expect=409)
    assert answer.json["type"].endswith("#unique-key-taken")
    assert answer.headers["Location"] == f"/api/tasks/{first['id']}"
    api.post(TASK | {"unique_key": "invoice 7", "queue": "other"})
    api.post(TASK | {"unique_key": "invoice 8"})
    api.patch(f"/api/tasks/{first['id']}/cancel")
    second = api.post(TASK | {"unique_key": "invoice 7"}).json
    assert api.patch(f"/api/tasks/{first['id']}/retry", 409).json["type"].endswith("#unique-key-taken")
    api.patch(f"/api/tasks/{second['id']}/cancel")
    assert api.patch(f"/api/tasks/{first['id']}/retry").json["status"] == "AVAILABLE"
    assert count(db) == 4


@pytest.mark.parametrize("key", ["", "x" * 201, "a\nb", 7])
def test_what_a_unique_key_may_be(api: Client, key: object) -> None:
    assert api.post(TASK | {"unique_key": key}, expect=422).fields == ["unique_key"]


@pytest.mark.parametrize("bare, quoted", [("k", '"k"'), ("order 7", '"order 7"'), ('a"b\\c', '"a\\"b\\\\c"')])
def test_a_quoted_key_is_the_same_as_the_bare_one(api: Client, bare: str, quoted: str) -> None:
    """The draft's form, a string as of RFC 9651."""
    first = api.post(TASK, Idempotency_Key=quoted)
    assert api.post(TASK, 200, Idempotency_Key=bare).json["id"] == first.json["id"]
    assert api.post(TASK, 200, Idempotency_Key=quoted).json["id"] == first.json["id"]


@pytest.mark.parametrize("key", ['"', '""', '"k', '"k"x', '"k";a=1', '"\\k"', '"k\\"', '"' + "k" * 256 + '"'])
def test_what_begins_as_a_quoted_key_must_be_one(api: Client, key: str) -> None:
    assert api.post(TASK, 422, Idempotency_Key=key).fields == ["Idempotency-Key"]


def test_the_longest_key_may_be_quoted_too(api: Client) -> None:
    api.post(TASK, Idempotency_Key='"' + "k" * 255 + '"')
    api.post(TASK, 200, Idempotency_Key="k" * 255)


# ---- bulk ----


def bulk(api: Client, tasks: object, expect: int = 201, **headers: str):
    return api.send("POST", "/api/tasks/bulk", {"tasks": tasks}, expect, **headers)


def test_many_are_stored_in_the_order_given(api: Client, db: psycopg.Connection) -> None:
    ids = bulk(api, [{"name": "t", "payload": n} for n in range(10_000)]).json["ids"]
    stored = db.execute("SELECT id::text, payload FROM pgmill.tasks ORDER BY payload::int").fetchall()
    assert [id for id, _ in stored] == ids and [n for _, n in stored] == list(range(10_000))


def test_all_or_nothing(api: Client, db: psycopg.Connection) -> None:
    tasks = [TASK, TASK | {"priority": "URGENT"}, {"payload": 1}, "x", TASK]
    assert bulk(api, tasks, 422).fields == ["tasks/1/priority", "tasks/2/name", "tasks/3"]
    bulk(api, [TASK | {"unique_key": "k"}, TASK | {"unique_key": "k"}], 409)
    assert count(db) == 0


@pytest.mark.parametrize("body, fields", [
    ({"tasks": []}, ["tasks"]),
    ({"tasks": [{"name": "t"}] * 10_001}, ["tasks"]),
    ({"tasks": {}}, ["tasks"]),
    ({}, ["tasks"]),
    ({"tasks": [], "more": 1}, ["more"]),
    ([], [""]),
])
def test_what_a_bulk_submission_must_be(api: Client, body: object, fields: list[str]) -> None:
    assert api.send("POST", "/api/tasks/bulk", body, 422).fields == fields


def test_a_bulk_submission_can_be_repeated(api: Client, db: psycopg.Connection) -> None:
    first = bulk(api, [TASK] * 3, Idempotency_Key="k").json
    again = bulk(api, [TASK] * 3, 200, Idempotency_Key="k")
    assert again.json == first and again.headers["Idempotency-Replayed"] == "true" and count(db) == 3
    bulk(api, [TASK] * 2, 422, Idempotency_Key="k")


def skipping(api: Client, keys: list[str | None], expect: int = 201, key: str | None = None, **more: str) -> Answer:
    tasks = [{"name": "t"} | ({"unique_key": unique} if unique else {}) for unique in keys]
    head = {"Idempotency_Key": key} if key else {}
    return api.send("POST", "/api/tasks/bulk", {"tasks": tasks} | more, expect, **head)


def test_a_bulk_that_meets_a_taken_key_says_which_element(api: Client) -> None:
    holder = api.post({"name": "t", "unique_key": "a"}).json["id"]
    answer = skipping(api, [None, "b", "a", "b"], 409)
    assert answer.fields == ["tasks/2/unique_key", "tasks/3/unique_key"]
    assert answer.headers["Location"] == f"/api/tasks/{holder}"
    alone = api.send("POST", "/api/tasks/bulk", [TASK, TASK | {"unique_key": "a"}], 409)
    assert alone.fields == ["1/unique_key"]
    assert len(api.get("/api/tasks/").json["tasks"]) == 1


def test_a_bulk_can_leave_out_what_is_there(api: Client) -> None:
    holder = api.post({"name": "t", "unique_key": "a"}).json["id"]
    first = skipping(api, [None, "b", "a", "b"], key="k", on_conflict="skip").json
    assert first["skipped"] == [2, 3] and first["ids"][2] == holder and first["ids"][3] == first["ids"][1]
    assert len(api.get("/api/tasks/").json["tasks"]) == 3
    api.patch(f"/api/tasks/{holder}/cancel")
    again = skipping(api, [None, "b", "a", "b"], 200, key="k", on_conflict="skip").json
    assert (again["ids"], again["skipped"]) == (first["ids"], first["skipped"])
    assert skipping(api, ["b"], on_conflict="skip").json["skipped"] == [0]
    assert skipping(api, ["a"], on_conflict="skip").json["skipped"] == []
    assert len(api.get("/api/tasks/").json["tasks"]) == 4
    assert skipping(api, ["c"], 422, on_conflict="ignore").fields == ["on_conflict"]
    assert skipping(api, ["a"], 409, on_conflict="fail").fields == ["tasks/0/unique_key"]


def test_a_bulk_may_be_the_array_alone(api: Client, db: psycopg.Connection) -> None:
    ids = api.send("POST", "/api/tasks/bulk", [TASK, TASK | {"queue": "q"}], 201).json["ids"]
    assert [api.get(f"/api/tasks/{id}").json["queue"] for id in ids] == ["default", "q"]
    wrong = [TASK | {"priority": "x"}, 7, {"nam": "t"}]
    assert api.send("POST", "/api/tasks/bulk", wrong, 422).fields == ["0/priority", "1", "2/nam", "2/name"]
    assert api.send("POST", "/api/tasks/bulk", [], 422).fields == [""]
    assert api.send("POST", "/api/tasks/bulk", "7", 422).fields == [""]
    assert count(db) == 2
