# SPDX-License-Identifier: MIT
"""Queues, workers and figures."""

import re
import time
import uuid

import psycopg
import pytest

from support.api import Answer, Client
from support.process import eventually

TASK = {"name": "t"}
STATUSES = {"SCHEDULED", "AVAILABLE", "RUNNING", "PAUSED", "RETRYABLE", "COMPLETED", "CANCELLED", "FAILED"}


def register(db: psycopg.Connection, queue: str = "default") -> str:
    id = str(uuid.uuid4())
    db.execute("SELECT pgmill.register(%s, 'w1', 'host', 7, '0', '30s', ARRAY[%s], '{t}')", [id, queue])
    return id


# ---- queues ----


def bulk(api: Client, names: range, expect: int) -> Answer:
    tasks = [TASK | {"queue": f"q{n}"} for n in names]
    return api.send("POST", "/api/tasks/bulk", {"tasks": tasks}, expect)


def test_a_client_may_bring_a_thousand_queues_into_being(api: Client, db: psycopg.Connection) -> None:
    db.execute("SELECT pgmill.submit('t', queue => 'owners')")
    assert bulk(api, range(1001), 422).fields == ["queue"]
    bulk(api, range(999), 201)
    db.execute("SELECT pgmill.tidy()")
    api.post(TASK | {"queue": "q999"})
    refused = api.post(TASK | {"queue": "one-more"}, 422)
    assert refused.fields == ["queue"] and '"one-more" does not exist' in refused.json["detail"]
    assert "QueueNames=" in refused.json["detail"] and "without a token" in refused.json["detail"]
    assert api.post(TASK | {"queue": "one-more"}, 422, Idempotency_Key="k").fields == ["queue"]
    api.get("/api/queues/one-more", 404)
    for queue in ("q0", "q999", "owners"):  # which exist, whoever made them
        api.post(TASK | {"queue": queue})
    bulk(api, range(1000), 201)
    db.execute("SELECT pgmill.cancel(id) FROM pgmill.task WHERE queue = 'q7'")
    api.send("DELETE", "/api/queues/q7", None, 204)
    api.post(TASK | {"queue": "one-more"}, Idempotency_Key="k")


def test_a_queue_is_there_once_it_was_used_or_configured(api: Client) -> None:
    api.get("/api/queues/mail", 404)
    api.patch("/api/queues/mail/pause", 404)
    api.post(TASK | {"queue": "mail"})
    queue = api.get("/api/queues/mail").json
    assert (queue["name"], queue["paused"], queue["max_running"], queue["available"]) == ("mail", False, None, 1)
    made = api.send("PUT", "/api/queues/other", {"max_running": 5}, 201).json
    assert (made["max_running"], made["available"]) == (5, 0)
    assert api.send("PUT", "/api/queues/other", {"paused": True}, 200).json["max_running"] is None
    assert {queue["name"] for queue in api.get("/api/queues/").json["queues"]} >= {"mail", "other"}


def test_put_replaces_the_settings_of_a_queue_and_patch_changes_what_it_names(api: Client) -> None:
    def settings(method: str, body: object, expect: int = 200) -> tuple[bool, int | None]:
        queue = api.send(method, "/api/queues/q", body, expect).json
        return queue["paused"], queue["max_running"]

    api.send("PATCH", "/api/queues/q", {"paused": True}, 404)
    assert settings("PUT", {"paused": True, "max_running": 7}, 201) == (True, 7)
    assert settings("PATCH", {"max_running": 1e1}) == (True, 10)
    assert settings("PATCH", {"paused": False}) == (False, 10)
    assert settings("PATCH", {}) == (False, 10)
    assert settings("PATCH", {"max_running": None}) == (False, None)  # null is the default
    assert settings("PATCH", {"paused": True, "max_running": 0}) == (True, 0)
    assert settings("PUT", {"paused": None, "max_running": None}) == (False, None)
    assert settings("PUT", {"max_running": 3}) == (False, 3)
    assert settings("PUT", {}) == (False, None)
    api.post(TASK | {"queue": "used"})
    assert api.send("PATCH", "/api/queues/used", {"paused": True}, 200).json["paused"] is True
    assert api.send("PATCH", "/api/queues/q", {"max_running": -1}, 422).fields == ["max_running"]


def test_a_paused_queue_gives_nothing_out(api: Client, db: psycopg.Connection) -> None:
    api.post(TASK)
    assert api.patch("/api/queues/default/pause").json["paused"] is True
    worker = register(db)
    claim = ("SELECT count(*) FROM pgmill.claim('default', %s, '{t}', '{3}', '{5}', 5, array_fill('-infinity'::timestamptz, '{4}'),"
             " array_fill('00000000-0000-0000-0000-000000000000'::uuid, '{4}'))")
    assert db.execute(claim, [worker]).fetchone() == (0,)
    assert api.patch("/api/queues/default/resume").json["paused"] is False
    assert db.execute(claim, [worker]).fetchone() == (1,)
    assert api.get("/api/queues/default").json["running"] == 1


@pytest.mark.parametrize("body, fields", [
    ([], [""]), ({"paused": 1}, ["paused"]), ({"max_running": -1}, ["max_running"]), ({"max_running": 1.5}, ["max_running"]),
    ({"max_running": 1_000_001}, ["max_running"]), ({"limit": 1}, ["limit"]), ('{"paused": true, "paused": true}', ["paused"]),
])
def test_settings_of_a_queue_are_read_strictly(api: Client, body: object, fields: list[str]) -> None:
    assert api.send("PUT", "/api/queues/q", body, 422).fields == fields
    api.send("PUT", "/api/queues/-", {}, 422)


def test_queues_come_by_the_page_and_empty_ones_can_be_deleted(api: Client) -> None:
    ids = [api.post(TASK | {"queue": name}).json["id"] for name in ("a", "b", "c")]
    first = api.get("/api/queues/?limit=2").json
    assert [queue["name"] for queue in first["queues"]] == ["a", "b"]
    last = api.get(f"/api/queues/?limit=2&cursor={first['next']}").json
    assert [queue["name"] for queue in last["queues"]] == ["c"] and last["next"] is None
    for query in ("limit=0", "limit=1001", "cursor=c", "cursor=a", "colour=red"):
        assert api.get(f"/api/queues/?{query}", 422).fields == [query.split("=")[0]]
    assert api.send("DELETE", "/api/queues/c", None, 409).json["type"].endswith("#queue-used")
    api.patch(f"/api/tasks/{ids[2]}/cancel")
    assert api.send("DELETE", "/api/queues/c", None, 204).body == b""
    api.send("DELETE", "/api/queues/c", None, 404)
    assert api.get("/api/stats").json["submitted"] == 3


# ---- workers ----


def test_workers_are_listed_with_what_they_run(api: Client, db: psycopg.Connection) -> None:
    assert api.get("/api/workers/").json == {"workers": []}
    id = register(db, "mail")
    (worker,) = api.get("/api/workers/").json["workers"]
    assert worker["id"] == id and worker["status"] == "ACTIVE" and worker["queues"] == ["mail"]
    assert worker["instance"] == "w1" and worker["running"] == 0 and worker["tasks"] == []
    assert worker["started_at"].endswith("Z") and worker["last_seen_at"].endswith("Z")


def test_a_handler_that_rests_is_shown_and_counted(api: Client, db: psycopg.Connection) -> None:
    id = register(db)
    assert api.get("/api/workers/").json["workers"][0]["resting"] == {}
    db.execute("SELECT pgmill.serve(%s, '{t,u}', '{u}', '{\"cannot start /u: No such file or directory\"}')", [id])
    (worker,) = api.get("/api/workers/").json["workers"]
    assert (worker["names"], worker["resting"]) == (["t", "u"], {"u": "cannot start /u: No such file or directory"})
    assert metrics(api)['pgmill_resting_handlers{name="u"}'] == 1


def test_a_quiet_worker_claims_no_more(api: Client, db: psycopg.Connection) -> None:
    id = register(db)
    api.post(TASK)
    assert api.patch(f"/api/workers/{id}/quiet").json["status"] == "QUIET"
    claim = ("SELECT count(*) FROM pgmill.claim('default', %s, '{t}', '{3}', '{5}', 5, array_fill('-infinity'::timestamptz, '{4}'),"
             " array_fill('00000000-0000-0000-0000-000000000000'::uuid, '{4}'))")
    assert db.execute(claim, [id]).fetchone() == (0,)
    api.patch(f"/api/workers/{uuid.uuid4()}/quiet", 404)
    api.patch("/api/workers/7/quiet", 422)


# ---- figures ----


def test_stats(api: Client, db: psycopg.Connection) -> None:
    register(db)
    api.post(TASK)
    api.post(TASK | {"scheduled_at": "2999-01-01T00:00:00Z"})
    api.patch(f"/api/tasks/{api.post(TASK).json['id']}/pause")
    api.patch(f"/api/tasks/{api.post(TASK).json['id']}/cancel")
    stats = api.get("/api/stats").json
    assert stats["tasks"].keys() <= STATUSES and stats["submitted"] == 4 and stats["workers"] == 1
    counts = {status: n for status, n in stats["tasks"].items() if n}
    assert counts == {"AVAILABLE": 1, "SCHEDULED": 1, "PAUSED": 1, "CANCELLED": 1}
    assert stats["oldest_available_seconds"] >= 0


def metrics(api: Client) -> dict[str, float]:
    lines = api.get("/metrics").body.decode().splitlines()
    assert all(line.startswith("#") or line.startswith("pgmill_") for line in lines)
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))}


def test_metrics(api: Client, db: psycopg.Connection) -> None:
    api.post(TASK | {"queue": "mail"})
    api.patch(f"/api/tasks/{api.post(TASK).json['id']}/cancel")
    found = metrics(api)
    assert found['pgmill_tasks{queue="mail",status="AVAILABLE"}'] == 1
    assert found['pgmill_tasks_submitted_total{queue="mail"}'] == 1
    assert found['pgmill_tasks_finished_total{queue="default",outcome="cancelled"}'] == 1
    assert any(name.startswith("pgmill_build_info{") for name in found)
    for name in ("pgmill_db_oldest_transaction_age_seconds", ):
        assert name in found
    types = [line.split()[2:] for line in api.get("/metrics").body.decode().splitlines() if line.startswith("# TYPE")]
    assert len({name for name, _ in types}) == len(types) and ["pgmill_wait_seconds", "histogram"] in types
    families = {re.sub("(_bucket|_sum|_count)?({.*)?$", "", name) for name in found}
    assert families == {name for name, _ in types}


def test_metrics_are_kept_for_a_while(api: Client) -> None:
    before = metrics(api)
    api.post(TASK)
    assert metrics(api) == before
    eventually(lambda: metrics(api) != before or time.sleep(0.2), within=10)
