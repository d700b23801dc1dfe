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

TASK = {"name": "example_task"}


def test_the_documented_calls_work_as_printed(start_api: Callable) -> None:
    url = f"http://localhost:{start_api().port}"

    def curl(command: str) -> dict:
        command = command.replace("http://localhost:8000", url)
        return json.loads(subprocess.run(["sh", "-c", f"curl -sS {command}"], check=True, capture_output=True).stdout)

    task = curl('-X POST "http://localhost:8000/api/tasks/" -H "Content-Type: application/json" -d \'{"name": '
                '"example_task", "payload": {"key": "value"}, "priority": "MEDIUM", "scheduled_at": '
                '"2023-10-01T10:00:00"}\'')
    assert task["status"] == "AVAILABLE"
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
    '[' * 60 + ']' * 60, '{"b": 1, "a": 2}',
])
def test_a_payload_comes_back_as_jsonb_keeps_it(api: Client, db: psycopg.Connection, payload: str) -> None:
    task = api.post('{"name": "t", "payload": %s}' % payload)
    (kept,) = db.execute("SELECT %s::jsonb::text", [payload]).fetchone()
    assert f'"payload": {kept}, "tags"'.encode() in task.body


@pytest.mark.parametrize("body, status, fields", [
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
    (TASK | {"priority": "x", "queue": "?"}, 422, ["priority", "queue"]),
])
def test_bad_input_names_the_field_and_the_connection_goes_on(
        api: Client, body: object, status: int, fields: list[str]) -> None:
    answer = api.post(body, expect=status)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["status"] == status and answer.json["title"]
    assert answer.fields == fields
    connection = api.http.sock
    api.post(TASK)
    assert api.http.sock is connection


def test_what_is_not_there(api: Client) -> None:
    assert api.get("/api/tasks/no-uuid", expect=422).fields == ["id"]
    api.get(f"/api/tasks/{uuid.uuid4()}", expect=404)
    api.patch(f"/api/tasks/{uuid.uuid4()}/pause", expect=404)
    api.get("/nowhere", expect=404)
    assert "POST" in api.send("DELETE", "/api/tasks/", expect=405).headers["Allow"]


def test_a_trailing_slash_makes_no_difference(api: Client) -> None:
    id = api.send("POST", "/api/tasks", TASK, expect=201).json["id"]
    assert api.get(f"/api/tasks/{id}/").json == api.get(f"/api/tasks/{id}").json


def test_head_and_options(api: Client) -> None:
    id = api.post(TASK).json["id"]
    head = api.send("HEAD", f"/api/tasks/{id}", expect=200)
    assert head.body == b"" and int(head.headers["Content-Length"]) > 0
    assert "GET" in api.send("OPTIONS", f"/api/tasks/{id}", expect=204).headers["Allow"]


def test_the_frame_of_a_request(api: Client) -> None:
    api.post(TASK, expect=415, Content_Type="text/plain")
    api.post(TASK, expect=421, Host="evil.example")
    api.post(TASK, expect=201, Host="127.0.0.1:80")


def test_a_body_over_the_limit_is_413(start_api: Callable) -> None:
    api = start_api()
    api.client().post(TASK | {"payload": "x" * (1 << 20)}, expect=413)
    api.client().post(TASK | {"payload": "x" * (1 << 19)}, expect=201)


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


def test_pause_and_resume_say_what_cannot_be(api: Client, db: psycopg.Connection, connect: Callable) -> None:
    id = api.post(TASK).json["id"]
    assert api.patch(f"/api/tasks/{id}/pause").json["status"] == "PAUSED"
    assert api.patch(f"/api/tasks/{id}/pause").json["status"] == "PAUSED"
    assert api.patch(f"/api/tasks/{id}/resume").json["status"] == "AVAILABLE"
    assert api.patch(f"/api/tasks/{id}/resume").json["status"] == "AVAILABLE"
    other = connect(autocommit=False)
    other.execute("SELECT FROM pgmill.tasks WHERE id = %s FOR UPDATE", [id])
    assert "transaction" in api.patch(f"/api/tasks/{id}/pause", expect=409).json["detail"]
    other.rollback()
    db.execute("UPDATE pgmill.tasks SET state = 'running', ready = false WHERE id = %s", [id])
    assert "run" in api.patch(f"/api/tasks/{id}/pause", expect=409).json["detail"]
    db.execute("UPDATE pgmill.tasks SET state = 'completed' WHERE id = %s", [id])
    assert "COMPLETED" in api.patch(f"/api/tasks/{id}/resume", expect=409).json["detail"]
