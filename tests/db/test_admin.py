# SPDX-License-Identifier: MIT
"""Queues, workers and figures as REST shows them."""

import json
import uuid
from typing import Any

import psycopg
import pytest

from .conftest import End, Mill

EMPTY = {"paused": False, "max_running": None, "available": 0, "scheduled": 0, "retryable": 0, "running": 0,
         "paused_tasks": 0, "completed": 0, "failed": 0, "cancelled": 0, "oldest_available_seconds": None, "workers": 0}


def ask(mill: Mill, function: str, *arguments: Any) -> tuple[str, Any]:
    marks = ", ".join(["%s"] * len(arguments))
    verdict, text = mill.db.execute(f"SELECT verdict, shown FROM pgmill.{function}({marks})", arguments).fetchone()
    return verdict, text and json.loads(text)


def queue(mill: Mill, name: str = "default") -> Any:
    verdict, answer = ask(mill, "show_queues", name)
    assert verdict == "done" and answer["name"] == name
    return answer


# ---- queues ----


def test_a_queue_is_known_once_it_is_used_configured_or_served(mill: Mill) -> None:
    assert ask(mill, "show_queues", None) == ("done", {"queues": [], "next": None})
    assert ask(mill, "show_queues", "q") == ("unknown", None)
    assert ask(mill, "pause_queue", "q", True) == ("unknown", None)
    id = mill.submit(queue="q")
    mill.worker()
    ask(mill, "put_queue", "configured", False, None)
    names = [q["name"] for q in ask(mill, "show_queues", None)[1]["queues"]]
    assert names == ["configured", "default", "q"]
    mill.value("SELECT pgmill.cancel(%s)", id)
    mill.value("SELECT pgmill.tidy()")
    assert queue(mill, "q") == EMPTY | {"name": "q", "cancelled": 1}
    assert queue(mill)["workers"] == 1


def test_settings(mill: Mill) -> None:
    assert ask(mill, "put_queue", "q", True, 3) == ("created", EMPTY | {"name": "q", "paused": True, "max_running": 3})
    assert ask(mill, "put_queue", "q", False, None) == ("done", EMPTY | {"name": "q"})
    ask(mill, "put_queue", "q", False, 5)
    assert ask(mill, "pause_queue", "q", True) == ("done", EMPTY | {"name": "q", "paused": True, "max_running": 5})
    assert ask(mill, "pause_queue", "q", False) == ("done", EMPTY | {"name": "q", "max_running": 5})
    with pytest.raises(psycopg.errors.CheckViolation, match="pgmill.queue .*1 to 100 of A-Z"):
        ask(mill, "put_queue", "no name", False, None)


@pytest.mark.parametrize("opens", [("pause_queue", "default", False), ("put_queue", "default", False, None)])
def test_who_sleeps_is_told_that_a_queue_opens(mill: Mill, opens: tuple[Any, ...]) -> None:
    mill.submit()
    worker = mill.worker()
    ask(mill, "pause_queue", "default", True)
    assert worker.claim() == []
    worker.call("listen")
    worker.sleep()
    ask(mill, *opens)
    assert worker.called() == 1
    assert len(worker.claim()) == 1


def test_the_oldest_that_waits(mill: Mill) -> None:
    first, second = mill.submit(), mill.submit(priority="CRITICAL")
    mill.db.execute("UPDATE pgmill.tasks SET due_at = now() - interval '90 s' WHERE id = %s", [first])
    assert 90 <= queue(mill)["oldest_available_seconds"] < 150
    mill.value("SELECT pgmill.pause(%s)", first)
    assert queue(mill)["oldest_available_seconds"] < 60
    assert second


def test_what_waits_for_its_backoff_is_retryable_wherever_it_is_counted(mill: Mill) -> None:
    worker, _ = mill.worker(), mill.submit(scheduled_at="2099-01-01")
    for _ in range(2):
        mill.submit()
    for claim in worker.claim():
        worker.finish(End(claim, "retry", delay=600))
    listed = mill.db.execute("SELECT status, count(*) FROM pgmill.task GROUP BY 1").fetchall()
    assert dict(listed) == {"RETRYABLE": 2, "SCHEDULED": 1}
    shown, stats = queue(mill), ask(mill, "show_stats", "1")[1]["tasks"]
    assert (shown["retryable"], shown["scheduled"], shown["available"]) == (2, 1, 0)
    assert {status: n for status, n in stats.items() if n} == dict(listed)
    metrics = {labels: float(value) for name, labels, value in mill.db.execute("SELECT * FROM pgmill.metrics('1')")
               if name == "pgmill_tasks" and float(value)}
    assert metrics == {f'queue="default",status="{status}"': n for status, n in listed}


@pytest.fixture
def crowded(mill: Mill) -> Mill:
    """3,000 queues that were used once, and a few that matter, among them the last by name."""
    mill.db.execute("SELECT pgmill.cancel(pgmill.submit('t', queue => 'q' || n)) FROM generate_series(1, 3000) n")
    mill.db.execute("SELECT pgmill.submit('t', queue => q) FROM unnest('{default,mail,z}'::text[]) q")
    return mill


def test_of_many_queues_those_in_use_come_first(crowded: Mill) -> None:
    crowded.worker()
    ask(crowded, "put_queue", "q77", True, None)
    names, after = [], None
    while True:
        page = ask(crowded, "show_queues", None, after, 999)[1]
        names += [q["name"] for q in page["queues"]]
        if not (after := page["next"]):
            break
    assert names[:4] == ["default", "mail", "q77", "z"] and names[4:] == sorted(names[4:])
    assert len(names) == len(set(names)) == 3003
    assert ask(crowded, "show_queues", None, None, 3003)[1]["next"] is None


def test_of_many_queues_none_is_left_out_of_the_whole(crowded: Mill) -> None:
    assert crowded.value("SELECT pgmill.unserved_queues()") == ["default", "mail", "z"]
    stats = ask(crowded, "show_stats", "1")[1]
    assert (stats["submitted"], stats["queues"]) == (3003, 3003) and stats["oldest_available_seconds"] >= 0
    assert {status: n for status, n in stats["tasks"].items() if n} == {"CANCELLED": 3000, "AVAILABLE": 3}
    crowded.worker()
    ask(crowded, "put_queue", "mail", False, 3)
    rows = crowded.db.execute("SELECT * FROM pgmill.metrics('1')").fetchall()
    assert len(rows) < 10_000
    submitted = {labels: int(value) for metric, labels, value in rows if metric == "pgmill_tasks_submitted_total"}
    assert submitted['queue="default"'] == submitted['queue="mail"'] == 1
    assert len(submitted) == 101 and sum(submitted.values()) == 3003 and submitted['queue="(other)"'] > 2900
    tasks = {labels: int(value) for metric, labels, value in rows if metric == "pgmill_tasks"}
    assert sum(tasks.values()) == 3003 and tasks['queue="(other)",status="AVAILABLE"'] == 1
    assert len({(metric, labels) for metric, labels, _ in rows}) == len(rows)


def test_an_empty_queue_can_be_deleted(mill: Mill) -> None:
    assert ask(mill, "delete_queue", "q") == ("unknown", None)
    id = mill.submit(queue="q")
    assert ask(mill, "delete_queue", "q")[0] == "used"
    mill.value("SELECT pgmill.cancel(%s)", id)
    ask(mill, "put_queue", "q", False, 3)
    assert ask(mill, "delete_queue", "q")[0] == "done"
    assert ask(mill, "show_queues", "q") == ("unknown", None)
    stats = ask(mill, "show_stats", "1")[1]
    assert (stats["queues"], stats["submitted"], stats["tasks"]["CANCELLED"]) == (0, 1, 1)
    mill.value("SELECT pgmill.retry(%s)", id)
    assert queue(mill, "q")["available"] == 1 and queue(mill, "q")["cancelled"] == 0
    assert ask(mill, "show_stats", "1")[1]["tasks"]["CANCELLED"] == 0
    mill.worker()
    assert ask(mill, "delete_queue", "default")[0] == "used"  # it is served


def test_queues_that_nobody_uses_go_by_themselves(mill: Mill) -> None:
    for name in ("old", "waits", "configured", "default"):
        mill.submit(queue=name)
    mill.db.execute("SELECT pgmill.cancel(id) FROM pgmill.tasks WHERE queue <> 'waits'")
    ask(mill, "put_queue", "configured", False, 3)
    worker = mill.worker()
    mill.value("SELECT pgmill.tidy()")
    mill.db.execute("UPDATE pgmill.tallies SET used_at = used_at - interval '23 hours'")
    mill.value("SELECT pgmill.tidy()")
    assert queue(mill, "old")["cancelled"] == 1
    mill.db.execute("UPDATE pgmill.tallies SET used_at = used_at - interval '2 hours'")
    mill.value("SELECT pgmill.tidy()")
    assert [q["name"] for q in ask(mill, "show_queues", None)[1]["queues"]] == ["configured", "default", "waits"]
    assert ask(mill, "show_stats", "1")[1]["submitted"] == 4
    assert worker


# ---- workers ----


def test_a_worker_and_what_it_runs(mill: Mill) -> None:
    assert ask(mill, "show_workers", None) == ("done", {"workers": []})
    assert ask(mill, "show_workers", uuid.uuid4()) == ("unknown", None)
    worker, id = mill.worker(), mill.submit()
    for _ in range(120):
        mill.submit()
    worker.claim(111)
    verdict, shown = ask(mill, "show_workers", worker.id)
    assert verdict == "done"
    assert ask(mill, "show_workers", None) == ("done", {"workers": [shown]})
    assert set(shown) == {"id", "instance", "host", "pid", "version", "queues", "names", "resting", "status", "started_at",
                          "last_seen_at", "running", "tasks"}
    assert (shown["id"], shown["status"], shown["running"], len(shown["tasks"])) == (str(worker.id), "ACTIVE", 111, 100)
    assert (shown["queues"], shown["names"]) == (["default"], ["t"])
    assert shown["tasks"][0]["id"] == str(id) and set(shown["tasks"][0]) == {"id", "name", "started_at"}


def test_a_quiet_worker_finishes_what_it_has(mill: Mill) -> None:
    worker, quick = mill.worker(), mill.worker()
    mill.submit()
    claim, = worker.claim()
    worker.call("listen")
    worker.sleep()
    verdict, shown = ask(mill, "quiet", worker.id)
    assert (verdict, shown["status"], shown["running"]) == ("done", "QUIET", 1)
    mill.submit()
    assert worker.claim() == []
    worker.sleep()
    mill.submit()
    assert worker.called() == 0
    assert worker.finish(End(claim)) == {claim.id: "done"}
    assert len(quick.claim()) == 2
    assert ask(mill, "quiet", worker.id)[0] == "done"
    assert ask(mill, "quiet", uuid.uuid4()) == ("unknown", None)


@pytest.mark.parametrize("call, status", [("quiet", "QUIET"), ("drain", "DRAINING")])
def test_a_worker_that_takes_nothing_new_serves_no_queue(mill: Mill, call: str, status: str) -> None:
    worker = mill.worker()
    mill.submit()
    assert queue(mill)["workers"] == 1 and mill.value("SELECT pgmill.unserved_queues()") == []
    worker.call(call)
    assert ask(mill, "show_workers", worker.id)[1]["status"] == status
    assert (queue(mill)["workers"], mill.value("SELECT pgmill.unserved_queues()")) == (0, ["default"])
    assert ask(mill, "show_stats", "1")[1]["workers"] == 0
    metrics = {labels: value for name, labels, value in mill.db.execute("SELECT * FROM pgmill.metrics('1')")
               if name == "pgmill_workers" and float(value)}
    assert metrics == {f'status="{status}"': "1"}
    assert worker.claim() == []


def test_a_worker_without_a_session_is_lost(mill: Mill) -> None:
    worker, other = mill.worker(), mill.worker()
    worker.die()
    mill.until_free(worker)
    statuses = {w["id"]: w["status"] for w in ask(mill, "show_workers", None)[1]["workers"]}
    assert statuses == {str(worker.id): "LOST", str(other.id): "ACTIVE"}
    mill.give_up(worker)
    mill.rescue(worker)
    assert ask(mill, "show_workers", worker.id) == ("unknown", None)


# ---- the whole ----


def test_stats(mill: Mill) -> None:
    stats = ask(mill, "show_stats", "1.2")[1]
    assert stats["tasks"] == dict.fromkeys(stats["tasks"], 0)
    assert (stats["version"], stats["workers"], stats["queues"], stats["oldest_available_seconds"]) == ("1.2", 0, 0, None)
    worker = mill.worker()
    for name in ("default", "q"):
        mill.submit(queue=name)
    worker.claim()
    stats = ask(mill, "show_stats", "1.2")[1]
    assert (stats["workers"], stats["queues"], stats["submitted"]) == (1, 2, 2)
    assert {status: n for status, n in stats["tasks"].items() if n} == {"AVAILABLE": 1, "RUNNING": 1}


def test_the_oldest_transaction(mill: Mill) -> None:
    query = "SELECT pgmill.oldest_transaction_seconds()"
    before = mill.value(query)
    client = mill.connect(autocommit=False)
    client.execute("SELECT 1")
    mill.db.execute("SELECT pg_sleep(0.1)")
    assert mill.value(query) >= 0.1 > before


def test_a_transaction_of_another_role_is_not_taken_for_none(mill: Mill, database: str) -> None:
    """0 would say that nothing holds dead rows back."""
    query = "SELECT pgmill.oldest_transaction_seconds()"
    mill.db.execute("CREATE ROLE other LOGIN")
    mill.db.execute("CREATE ROLE plain")
    try:
        with mill.connect(url=database.replace("user=postgres", "user=other"), autocommit=False) as other:
            other.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            other.execute("SELECT 1 FROM pg_class LIMIT 1")
            mill.db.execute("GRANT USAGE ON SCHEMA pgmill TO plain")
            mill.db.execute("GRANT EXECUTE ON FUNCTION pgmill.oldest_transaction_seconds() TO plain")
            mill.db.execute("ALTER FUNCTION pgmill.oldest_transaction_seconds() SECURITY INVOKER")
            mill.db.execute("SET ROLE plain")
            assert mill.value(query) is None
            mill.db.execute("RESET ROLE")
            mill.db.execute("GRANT pg_read_all_stats TO plain")
            mill.db.execute("SET ROLE plain")
            assert mill.value(query) > 0
    finally:
        mill.db.execute("RESET ROLE")
        mill.db.execute("DROP OWNED BY plain")
        mill.db.execute("DROP ROLE plain, other")


def test_the_rows_of_a_metric_stand_together(mill: Mill) -> None:
    worker = mill.worker()
    for name in ("default", "q"):
        mill.submit(queue=name)
    worker.finish(End(*worker.claim()))
    rows = mill.db.execute("SELECT * FROM pgmill.metrics('1')").fetchall()
    names = [name for name, _, _ in rows]
    assert names == sorted(names, key=names.index)
    assert len({(name, labels) for name, labels, _ in rows}) == len(rows)
    values = {f"{name}{{{labels}}}": float(value) for name, labels, value in rows}
    assert values['pgmill_tasks{queue="default",status="COMPLETED"}'] == 1
    assert values['pgmill_tasks{queue="q",status="AVAILABLE"}'] == 1
    assert values['pgmill_tasks_finished_total{queue="default",outcome="completed"}'] == 1
    assert values['pgmill_run_seconds_count{queue="default"}'] == 1
    assert values['pgmill_workers{status="ACTIVE"}'] == 1
