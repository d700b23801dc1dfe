# SPDX-License-Identifier: MIT
"""Submission from SQL and in groups, ids, and who is woken."""

import datetime
import time
import uuid
from typing import Any

import psycopg
import pytest

from .conftest import End, Mill, Worker

SECOND = datetime.timedelta(seconds=1)


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def sleeper(mill: Mill, queue: str = "default", *names: str) -> Worker:
    worker = mill.worker(names or ("t",))
    worker.call("listen")
    worker.sleep(queue)
    return worker


def group(mill: Mill, ids: list[uuid.UUID], payload: str = "null", tags: str = "{}", **other: Any) -> None:
    n = len(ids)
    lists = [ids, [other.get("queue", "default")] * n, ["t"] * n, [payload] * n, ["HIGH"] * n,
             [other.get("scheduled_at")] * n, [other.get("tries")] * n, [other.get("timeout")] * n, [tags] * n,
             other.get("unique_keys", [None] * n)]
    mill.db.execute("SELECT pgmill.submit_group(%s, %s, %s, %s, %s::text[]::pgmill.priority[], %s::timestamptz[],"
                    " %s::int[], %s::float8[], %s, %s::text[])", lists)


# ---- one task, in the client's transaction ----


def test_the_task_exists_if_the_transaction_commits(mill: Mill) -> None:
    worker = mill.worker()
    client = mill.connect(autocommit=False)
    kept = client.execute("SELECT pgmill.submit('t')").fetchone()[0]
    assert mill.row(kept) is None
    assert worker.claim() == []
    client.commit()
    lost = client.execute("SELECT pgmill.submit('t')").fetchone()[0]
    client.rollback()
    assert mill.row(lost) is None
    assert [c.id for c in worker.claim()] == [kept]


def test_a_name_is_enough(mill: Mill) -> None:
    task = mill.task(mill.submit("mail.send-1"))
    assert (task.name, task.queue, task.status, task.priority) == ("mail.send-1", "default", "AVAILABLE", "MEDIUM")
    assert (task.payload, task.tags, task.result, task.error, task.errors) == (None, [], None, None, [])
    assert (task.attempt, task.max_attempts, task.timeout) == (0, None, None)
    assert (task.scheduled_at, task.started_at, task.finished_at, task.worker) == (None, None, None, None)
    assert abs(task.created_at - now()) < 5 * SECOND


def test_everything_can_be_said(mill: Mill) -> None:
    id, at = mill.value("SELECT pgmill.uuid_v7()"), now() + 3600 * SECOND
    assert mill.submit("t", id=id, queue="q", payload='{"n": 9007199254740993}', priority="CRITICAL", scheduled_at=at,
                       max_attempts=7, timeout=90 * SECOND, tags=["a", "b"]) == id
    task = mill.task(id)
    assert (task.queue, task.payload, task.priority) == ("q", {"n": 9007199254740993}, "CRITICAL")
    assert (task.scheduled_at, task.max_attempts, task.timeout, task.tags) == (at, 7, 90, ["a", "b"])
    assert task.status == "SCHEDULED"
    assert mill.row(id).due_at == at


def test_a_time_in_the_past_means_now_and_is_remembered(mill: Mill) -> None:
    at = datetime.datetime(2023, 10, 1, 10, tzinfo=datetime.UTC)
    first = mill.submit()
    row = mill.row(mill.submit(scheduled_at=at))
    assert row.scheduled_at == at
    assert row.due_at > mill.row(first).due_at


@pytest.mark.parametrize("arguments, error, named", [
    ({"name": "no spaces"}, psycopg.errors.CheckViolation, "pgmill.name .*1 to 100 of A-Z"),
    ({"queue": ""}, psycopg.errors.CheckViolation, "pgmill.queue .*1 to 100 of A-Z"),
    ({"queue": "x" * 101}, psycopg.errors.CheckViolation, "pgmill.queue .*1 to 100 of A-Z"),
    ({"max_attempts": 0}, psycopg.errors.CheckViolation, "max_attempts .*1 to 1000"),
    ({"max_attempts": 1001}, psycopg.errors.CheckViolation, "max_attempts .*1 to 1000"),
    ({"timeout": 0 * SECOND}, psycopg.errors.CheckViolation, "timeout .*more than 0"),
    ({"priority": None}, psycopg.errors.NotNullViolation, "priority"),
    ({"payload": None}, psycopg.errors.NotNullViolation, "payload"),
    ({"tags": None}, psycopg.errors.NotNullViolation, "tags"),
    ({"priority": "URGENT"}, psycopg.errors.InvalidTextRepresentation, "URGENT"),
    ({"payload": "{"}, psycopg.errors.InvalidTextRepresentation, "json"),
])
def test_a_refusal_names_what_is_wrong(mill: Mill, arguments: dict[str, Any], error: type[psycopg.Error],
                                       named: str) -> None:
    with pytest.raises(error, match=named):
        mill.submit(**arguments)


def test_a_payload_that_nobody_could_read_is_refused(mill: Mill) -> None:
    """Six kilobytes as jsonb."""
    with pytest.raises(psycopg.errors.CheckViolation, match="payload is over 64 MiB as text"):
        mill.db.execute("SELECT pgmill.submit('t', (SELECT jsonb_agg(1e131000) FROM generate_series(1, 600)))")


@pytest.mark.parametrize("label", ["a", "_x", "0", "Mail.send-now_1", "x" * 100])
def test_labels(mill: Mill, label: str) -> None:
    assert mill.task(mill.submit(label, queue=label)).queue == label


# ---- ids ----


def test_an_id_carries_version_variant_and_time(mill: Mill) -> None:
    before = now()
    id = mill.value("SELECT pgmill.uuid_v7()")
    assert (id.version, id.variant) == (7, uuid.RFC_4122)
    made = mill.value("SELECT pgmill.uuid_time(%s)", id)
    assert before - SECOND / 1000 <= made <= now()
    assert id.int >> 80 == round(made.timestamp() * 1000)


def test_ids_sort_by_time_and_differ_within_a_millisecond(mill: Mill) -> None:
    earlier = mill.value("SELECT pgmill.uuid_v7()")
    time.sleep(0.002)
    later = mill.value("SELECT array_agg(pgmill.uuid_v7()) FROM generate_series(1, 10000)")
    assert earlier < min(later)
    assert len(set(later)) == 10000
    assert mill.value("SELECT pgmill.uuid_time('017f22e2-79b0-7cc3-98c4-dc0c0c07398f')") \
        == datetime.datetime(2022, 2, 22, 19, 22, 22, tzinfo=datetime.UTC)  # the example of RFC 9562


@pytest.mark.parametrize("id", [
    "00000000-0000-0000-0000-000000000000",
    "6ba7b810-9dad-11d1-80b4-00c04fd430c8",  # version 1
    "9f1c1a1e-6d0e-4b1d-9a53-0d5d7a6e3c55",  # version 4
    "017f22e2-79b0-7cc3-08c4-dc0c0c07398f",  # another variant
    "ffffffff-ffff-7fff-bfff-ffffffffffff",  # in the year 10889
])
def test_an_id_without_a_time_of_creation_is_refused(mill: Mill, id: str) -> None:
    """It would be first in all lists, and never forgotten."""
    with pytest.raises(psycopg.errors.CheckViolation, match=f"id {id} is no UUID of version 7, or was made in the future"):
        mill.submit("t", id=id)
    assert mill.value("SELECT count(*) FROM pgmill.tasks") == 0


# ---- a group ----


def test_a_group_sent_again_changes_nothing(mill: Mill) -> None:
    ids = [uuid.uuid4() for _ in range(3)]
    group(mill, ids[:2], '{"first": true}')
    first = [mill.row(id) for id in ids[:2]]
    group(mill, ids, '{"first": false}')
    assert [mill.row(id) for id in ids[:2]] == first
    assert mill.row(ids[2]).payload == {"first": False}


def test_a_group_sent_again_does_not_bring_back_what_has_ended(mill: Mill) -> None:
    worker, ids = mill.worker(), [uuid.uuid4()]
    group(mill, ids)
    worker.finish(End(*worker.claim()))
    group(mill, ids)
    assert mill.task(ids[0]).status == "COMPLETED"
    assert worker.claim() == []


def test_a_group_says_everything(mill: Mill) -> None:
    id, at = uuid.uuid4(), now() + 3600 * SECOND
    group(mill, [id], "[1]", '{a,"b c"}', queue="q", scheduled_at=at, tries=4, timeout=1.5)
    task = mill.task(id)
    assert (task.queue, task.payload, task.tags, task.scheduled_at) == ("q", [1], ["a", "b c"], at)
    assert (task.max_attempts, task.timeout, task.priority) == (4, 1.5, "HIGH")


def test_one_bad_payload_refuses_its_group(mill: Mill) -> None:
    good = uuid.uuid4()
    with pytest.raises(psycopg.errors.UntranslatableCharacter):
        mill.db.execute("SELECT pgmill.submit_group(%s, '{q,q}', '{t,t}', %s, '{LOW,LOW}', '{NULL,NULL}',"
                        " '{NULL,NULL}', '{NULL,NULL}', ARRAY['{}', '{}'], '{NULL,NULL}')",
                        [[good, uuid.uuid4()], ["1", r'"\u0000"']])
    assert mill.row(good) is None


# ---- who is woken ----


def test_a_sleeper_is_told_of_a_task_of_its_queue_and_name(mill: Mill) -> None:
    me, other_queue, other_name = sleeper(mill), sleeper(mill, "q"), sleeper(mill, "default", "u")
    mill.submit()
    assert [w.called() for w in (me, other_queue, other_name)] == [1, 0, 0]


def test_it_is_told_when_the_transaction_commits(mill: Mill) -> None:
    me, client = sleeper(mill), mill.connect(autocommit=False)
    client.execute("SELECT pgmill.submit('t')")
    assert me.called() == 0
    client.rollback()
    assert me.called() == 0
    client.execute("SELECT pgmill.submit('t')")
    client.commit()
    assert me.called() == 1


def test_as_many_are_told_as_there_are_tasks(mill: Mill) -> None:
    sleepers = [sleeper(mill) for _ in range(5)] + [sleeper(mill, "q")]
    mill.db.execute("SELECT pgmill.wake('{default,default,q}', '{t,t,u}')")
    assert sum(w.called() for w in sleepers) == 2


def test_not_always_the_same_one_is_told(mill: Mill) -> None:
    sleepers = [sleeper(mill) for _ in range(3)]
    for _ in range(40):
        mill.submit()
    assert all(w.called() for w in sleepers)


def test_who_is_awake_is_not_told(mill: Mill) -> None:
    me = sleeper(mill)
    me.call("awake")
    mill.submit()
    assert me.called() == 0


def test_nobody_asleep_no_notification(mill: Mill) -> None:
    """A notification takes a lock for the whole database at commit."""
    def fills_the_queue() -> bool:
        before = mill.value("SELECT pg_notification_queue_usage()")
        for _ in range(400):
            mill.submit()
        return mill.value("SELECT pg_notification_queue_usage()") > before

    reader = mill.connect()
    reader.execute("LISTEN anything")
    reader.autocommit = False
    reader.execute("SELECT 1")  # in a transaction it does not read: what is sent stays in the queue
    assert not fills_the_queue()
    sleeper(mill)
    assert fills_the_queue()


def test_a_task_for_later_wakes_nobody(mill: Mill) -> None:
    me = sleeper(mill)
    mill.submit(scheduled_at=now() + 60 * SECOND)
    assert me.called() == 0


def test_a_sleeper_knows_when_the_next_task_is_due(mill: Mill) -> None:
    worker = mill.worker()
    assert worker.sleep() is None
    mill.submit("u", scheduled_at=now() + 5 * SECOND)
    mill.submit(scheduled_at=now() + 60 * SECOND, priority="HIGH")
    mill.submit(scheduled_at=now() + 30 * SECOND, priority="LOW")
    mill.submit(scheduled_at=now() + 10 * SECOND, queue="q")
    assert 25 < worker.sleep() <= 30
    assert 5 < worker.sleep("default", "q") <= 10


@pytest.mark.parametrize("argument, value", [
    ("timeout", "700000 years"),
    ("timeout", "-1 second"),
    ("scheduled_at", "infinity"),
    ("scheduled_at", "4000-01-01 BC"),
    ("tags", "{NULL}"),
    ("tags", "{{a},{b}}"),
    ("tags", "{" + ",".join("a" * 21) + "}"),
])
def test_values_the_api_would_refuse_are_refused(mill: Mill, argument: str, value: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        mill.db.execute(f"SELECT pgmill.submit('t', {argument} => %s)", [value])


@pytest.mark.parametrize("tags", [["x" * 101], ["a", ""], ["ä" * 51], ["a"] * 21, ["a", None], [["a"], ["b"]]])
def test_tags_are_bounded_as_those_of_the_api(mill: Mill, tags: list[str | None]) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="pgmill.tags?"):
        mill.submit("t", tags=tags)
    longest = [f"{n:02}" + "ä" * 49 for n in range(20)]
    assert mill.task(mill.submit("t", tags=longest)).tags == longest
