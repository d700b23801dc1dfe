# SPDX-License-Identifier: MIT
"""Submit, read, pause and resume over HTTP."""

import datetime
import json
import subprocess
import threading
import time
import uuid
from collections.abc import Callable

import psycopg
import pytest

from support.api import Client
from support.process import eventually

TASK = {"name": "example_task"}


def test_what_no_live_worker_takes_is_stored_and_told(api: Client, db: psycopg.Connection) -> None:
    stored = api.post({"name": "t", "queue": "mail"}).json
    assert stored["warning"] == 'No worker serves the queue "mail" now; the task waits for one'
    assert api.get(f"/api/tasks/{stored['id']}").json == {key: stored[key] for key in stored if key != "warning"}
    db.execute("SELECT pgmill.register(pgmill.uuid_v7(), 'w', 'host', 7, '0', '30s', '{mail}', '{t}')")
    assert eventually(lambda: "warning" not in api.post({"name": "t", "queue": "mail"}).json)
    assert "warning" not in api.post({"name": "t", "queue": "mail", "unique_key": "k"}).json
    assert 'a handler for "u"' in api.post({"name": "u", "queue": "mail"}, Idempotency_Key="i").json["warning"]
    tasks = [{"name": name, "queue": queue} for name in ("t", "u") for queue in ("mail", "other")]
    answer = api.send("POST", "/api/tasks/bulk", {"tasks": tasks}, 201).json
    assert len(answer["ids"]) == 4 and len(answer["warnings"]) == 3
    assert "warnings" not in api.send("POST", "/api/tasks/bulk", {"tasks": tasks[:1]}, 201).json
    db.execute("SELECT pgmill.quiet(id) FROM pgmill.workers")
    told = eventually(lambda: api.post({"name": "t", "queue": "mail"}).json.get("warning"))
    assert "serves the queue" in told and api.post({"name": "t", "queue": "mail"}).json["warning"] == told


def test_the_documented_calls_work_as_printed(start_api: Callable) -> None:
    url = f"http://localhost:{start_api().port}"

    def curl(command: str) -> dict:
        command = command.replace("http://localhost:8000", url)
        return json.loads(subprocess.run(["sh", "-c", f"curl -sS {command}"], check=True, capture_output=True).stdout)

    task = curl('-X POST "http://localhost:8000/api/tasks/" -H "Content-Type: application/json" -d \'{"name": '
                '"example_task", "payload": {"key": "value"}, "priority": "MEDIUM", "scheduled_at": '
                '"2023-10-01T10:00:00"}\'')
    assert task["status"] == "AVAILABLE"
    assert task.pop("warning")  # there is no worker
    assert task["payload"] == {"key": "value"}
    assert task["scheduled_at"] == "2023-10-01T10:00:00Z"
    path = f'"http://localhost:8000/api/tasks/{task["id"]}'
    assert curl(f'-X GET {path}"') == task
    assert curl(f'-X PATCH {path}/pause"')["status"] == "PAUSED"
    assert curl(f'-X PATCH {path}/resume"')["status"] == "AVAILABLE"


def test_an_id_carries_the_time_of_its_creation(api: Client) -> None:
    before = time.time()
    id = uuid.UUID(api.post(TASK).json["id"])
    assert id.version == 7 and id.variant == uuid.RFC_4122
    assert before - 0.002 <= (id.int >> 80) / 1000 <= time.time()


@pytest.mark.parametrize("given, kept", [
    ("2023-10-01T10:00:00", "2023-10-01T10:00:00Z"),
    ("2023-10-01T10:00:00+02:00", "2023-10-01T08:00:00Z"),
    ("2027-01-31t08:00:00.25z", "2027-01-31T08:00:00.25Z"),
    ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
])
def test_times_are_zone_aware_and_mean_utc_without_a_zone(api: Client, given: str, kept: str) -> None:
    assert api.post(TASK | {"scheduled_at": given}).json["scheduled_at"] == kept


def test_a_task_of_the_future_is_scheduled(api: Client) -> None:
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    assert api.post(TASK | {"scheduled_at": later.isoformat()}).json["status"] == "SCHEDULED"


@pytest.mark.parametrize("payload", [
    '9007199254740993', '1e400', '"a\\tb"', '"Grüße 🎈"', '"\\u00e9\\ud83c\\udf88"', 'null', '[]',
    '[' * 63 + ']' * 63, '{"b": 1, "a": 2}', '-0.0', '0.10', '"\\ud83c\\udf88 raw 🎈"',
])
def test_a_payload_comes_back_as_jsonb_keeps_it(api: Client, db: psycopg.Connection, payload: str) -> None:
    task = api.post('{"name": "t", "payload": %s}' % payload)
    (kept,) = db.execute("SELECT %s::jsonb::text", [payload]).fetchone()
    assert f'"payload": {kept}, "tags"'.encode() in task.body


def test_the_database_is_the_judge_of_numbers(api: Client, db: psycopg.Connection) -> None:
    for number in ("1e131071", "1e131072", "1e-16383", "1e-16384", "1e-99999", "-0", "0e99999999999", "1" * 140_000):
        try:
            db.execute("SELECT %s::jsonb", [number])
            expect = 201
        except psycopg.Error:
            expect = 422
        answer = api.post('{"name": "t", "payload": [%s]}' % number, expect=expect)
        assert expect == 201 or answer.fields == ["payload"]


BAD_INPUT: list[tuple[object, int, list[str]]] = [
    ("{", 400, [""]),
    ("", 400, [""]),
    ('{"name": "t"} x', 400, [""]),
    (b'{"name": "\xff"}', 400, [""]),
    ("[" * 70 + "]" * 70, 422, [""]),
    ("[]", 422, [""]),
    ("{}", 422, ["name"]),
    ({"name": 7}, 422, ["name"]),
    ({"name": ""}, 422, ["name"]),
    ({"name": "-x"}, 422, ["name"]),
    ({"name": "a/b"}, 422, ["name"]),
    ({"name": "x" * 101}, 422, ["name"]),
    ({"Name": "t"}, 422, ["Name", "name"]),
    ('{"name": "t", "name": "t"}', 422, ["name"]),
    (TASK | {"colour": "red"}, 422, ["colour"]),
    (TASK | {"priority": "URGENT"}, 422, ["priority"]),
    (TASK | {"priority": 2}, 422, ["priority"]),
    (TASK | {"queue": "no queue"}, 422, ["queue"]),
    (TASK | {"scheduled_at": "tomorrow"}, 422, ["scheduled_at"]),
    (TASK | {"scheduled_at": "2023-02-29T00:00:00Z"}, 422, ["scheduled_at"]),
    (TASK | {"scheduled_at": 1}, 422, ["scheduled_at"]),
    (TASK | {"max_attempts": 0}, 422, ["max_attempts"]),
    (TASK | {"max_attempts": 1.5}, 422, ["max_attempts"]),
    (TASK | {"timeout": -1}, 422, ["timeout"]),
    (TASK | {"tags": "a"}, 422, ["tags"]),
    (TASK | {"tags": ["a"] * 21}, 422, ["tags"]),
    (TASK | {"payload": "a\0b"}, 422, ["payload"]),
    ('{"name": "t", "payload": 1e999999}', 422, ["payload"]),
    ('{"name": "t", "payload": [' + ", ".join(["1e131071"] * 9) + "]}", 422, ["payload"]),
    (TASK | {"priority": "x", "queue": "?"}, 422, ["priority", "queue"]),
    (TASK | {"scheduled_at": "2023-10-01"}, 422, ["scheduled_at"]),
    (TASK | {"timeout": "1s"}, 422, ["timeout"]),
    (TASK | {"tags": ["a", 7]}, 422, ["tags/1"]),
    ('{"name": "t", "payload": %s}' % ("[" * 64 + "]" * 64), 422, [""]),
    ('{"name": "t", "payload": NaN}', 400, [""]),
    ("\ufeff{}", 400, [""]),
]


def test_bad_input_names_the_field_and_the_connection_goes_on(api: Client) -> None:
    """All of it over one connection."""
    api.post(TASK)
    connection = api.http.sock
    for body, status, fields in BAD_INPUT:
        answer = api.post(body, expect=status)
        assert answer.headers["Content-Type"] == "application/problem+json"
        problem = answer.json
        assert problem["status"] == status and problem["title"] and problem["detail"]
        assert problem["type"].startswith("/docs/problems#")
        assert answer.fields == fields, body
        assert all(error["detail"] for error in problem["errors"])
    api.post(TASK | {"payload": "x" * (1 << 20)}, expect=413)
    api.post(TASK, expect=415, Content_Type="text/plain")
    api.post(TASK, expect=421, Host="evil.example")
    assert api.get("/api/tasks/no-uuid", expect=422).fields == ["id"]
    assert api.patch("/api/tasks/no-uuid/pause", expect=422).fields == ["id"]
    api.get(f"/api/tasks/{uuid.uuid4()}", expect=404)
    api.patch(f"/api/tasks/{uuid.uuid4()}/resume", expect=404)
    api.get("/nowhere", expect=404)
    api.send("DELETE", "/api/tasks/", expect=405)
    api.send("PATCH", f"/api/tasks/{uuid.uuid4()}/pause", b"[]", expect=422)
    api.post(TASK)
    assert api.http.sock is connection


def test_another_method_is_405_and_allow_lists_those_there_are(api: Client) -> None:
    def allowed(method: str, path: str) -> set[str]:
        return set(api.send(method, path, expect=405).headers["Allow"].split(", "))

    assert allowed("DELETE", "/api/tasks/") == {"GET", "HEAD", "POST", "OPTIONS"}
    assert allowed("PUT", f"/api/tasks/{uuid.uuid4()}") == {"GET", "HEAD", "OPTIONS"}
    assert allowed("POST", f"/api/tasks/{uuid.uuid4()}/pause/") == {"PATCH", "OPTIONS"}


def test_a_trailing_slash_makes_no_difference(api: Client) -> None:
    id = api.send("POST", "/api/tasks", TASK, expect=201).json["id"]
    assert api.get(f"/api/tasks/{id}/").json == api.get(f"/api/tasks/{id}").json


def test_head_and_options(api: Client) -> None:
    id = api.post(TASK).json["id"]
    head = api.send("HEAD", f"/api/tasks/{id}", expect=200)
    assert head.body == b"" and int(head.headers["Content-Length"]) > 0
    assert "GET" in api.send("OPTIONS", f"/api/tasks/{id}", expect=204).headers["Allow"]
    assert "PATCH" in api.send("OPTIONS", "*", expect=204).headers["Allow"]


@pytest.mark.parametrize("host, status", [
    ("localhost", 201), ("LOCALHOST:1", 201), ("127.0.0.1:80", 201), ("[::1]:8000", 201), ("mill.example", 201),
    ("evil.example", 421), ("localhost.evil.example", 421), ("127.0.0.1.evil.example:8000", 421), ("", 421),
])
def test_it_answers_for_its_own_names_only(start_api: Callable, host: str, status: int) -> None:
    api = start_api(environment={"PGMILL_ALLOWED_HOSTS": "mill.example"})
    api.client().post(TASK, expect=status, Host=host)


@pytest.mark.parametrize("type", ["application/json", "Application/JSON; charset=utf-8"])
def test_json_by_any_of_its_names(api: Client, type: str) -> None:
    api.post(TASK, Content_Type=type)


def test_a_body_of_exactly_the_limit_is_taken_and_one_byte_more_is_not(api: Client) -> None:
    def body(size: int) -> bytes:
        head, tail = b'{"name": "t", "payload": "', b'"}'
        return head + b"x" * (size - len(head) - len(tail)) + tail

    api.post(body(1 << 20))
    api.post(body((1 << 20) + 1), expect=413)


def test_one_bad_payload_in_a_crowd_fails_alone(start_api: Callable, db: psycopg.Connection) -> None:
    api = start_api()
    seen: list[tuple[bool, int]] = []

    def talk(number: int) -> None:
        client = api.client()
        for i in range(30):
            bad = (i + number) % 5 == 0
            seen.append((bad, client.post(TASK | {"payload": "\0" if bad else i}, expect=None).status))

    threads = [threading.Thread(target=talk, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {status for bad, status in seen if bad} == {422}
    assert {status for bad, status in seen if not bad} == {201}
    assert db.execute("SELECT count(*) FROM pgmill.tasks").fetchone() == (sum(not bad for bad, _ in seen),)


def test_a_scheduled_task_can_be_paused_and_waits_on_when_resumed(api: Client) -> None:
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    id = api.post(TASK | {"scheduled_at": later.isoformat()}).json["id"]
    assert api.patch(f"/api/tasks/{id}/pause").json["status"] == "PAUSED"
    assert api.patch(f"/api/tasks/{id}/resume").json["status"] == "SCHEDULED"


def test_pause_and_resume_say_what_cannot_be(api: Client, db: psycopg.Connection, connect: Callable) -> None:
    id = api.post(TASK).json["id"]
    assert api.patch(f"/api/tasks/{id}/pause").json["status"] == "PAUSED"
    assert api.patch(f"/api/tasks/{id}/pause").json["status"] == "PAUSED"
    assert api.patch(f"/api/tasks/{id}/resume").json["status"] == "AVAILABLE"
    assert api.patch(f"/api/tasks/{id}/resume").json["status"] == "AVAILABLE"
    other = connect(autocommit=False)
    other.execute("SELECT FROM pgmill.tasks WHERE id = %s FOR UPDATE", [id])
    asked = time.monotonic()
    assert "transaction" in api.patch(f"/api/tasks/{id}/pause", expect=409).json["detail"]
    assert time.monotonic() - asked < 5  # it waits half a second, not for the transaction
    api.post(TASK)
    other.rollback()
    db.execute("UPDATE pgmill.tasks SET state = 'running', ready = false, worker = gen_random_uuid() WHERE id = %s", [id])
    assert api.patch(f"/api/tasks/{id}/pause", expect=202).json["status"] == "RUNNING"  # its worker has not yet said so
    db.execute("UPDATE pgmill.tasks SET state = 'completed' WHERE id = %s", [id])
    assert "COMPLETED" in api.patch(f"/api/tasks/{id}/resume", expect=409).json["detail"]


# ---- what clients send ----


FIELDS = ("payload", "queue", "priority", "scheduled_at", "max_attempts", "timeout", "tags", "unique_key")


@pytest.mark.parametrize("field", FIELDS)
def test_null_is_the_same_as_leaving_a_field_out(api: Client, field: str) -> None:
    plain, given = api.post(TASK).json, api.post(TASK | {field: None}).json
    assert all(plain[name] == given[name] for name in FIELDS)
    ids = api.send("POST", "/api/tasks/bulk", {"tasks": [TASK | {field: None}]}, 201).json["ids"]
    assert all(api.get(f"/api/tasks/{ids[0]}").json[name] == plain[name] for name in FIELDS)


def test_a_name_must_be_there_and_a_field_once_even_if_null(api: Client) -> None:
    assert "is missing" in api.post({"name": None}, expect=422).json["detail"]
    assert api.post('{"name": "t", "queue": null, "queue": "q"}', expect=422).fields == ["queue"]


def test_a_path_with_a_row_of_its_own_is_no_id(api: Client) -> None:
    for method in ("GET", "HEAD", "PATCH"):
        answer = api.send(method, "/api/tasks/bulk", expect=405)
        assert answer.headers["Allow"] == "POST, OPTIONS"
    assert api.send("OPTIONS", "/api/tasks/b%75lk/", expect=204).headers["Allow"] == "POST, OPTIONS"
    assert api.get("/api/tasks/bulk/log", 422).fields == ["id"]
