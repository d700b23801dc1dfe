# SPDX-License-Identifier: MIT
"""unique_key and Idempotency-Key: who comes second, what it waits for, and when a key is free again."""

import threading
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

import psycopg
import pytest

from support.process import eventually

from .conftest import End, Mill

KEY, REQUEST = "k", "aa"


class Answer(NamedTuple):
    verdict: str
    ids: list[uuid.UUID]
    holder: uuid.UUID | None


def keyed(session: psycopg.Connection, ids: Sequence[uuid.UUID], key: str | None = None, request: str = REQUEST,
          unique_keys: Sequence[str | None] | None = None, queue: str = "default", scope: str = "token") -> Answer:
    n = len(ids)
    lists: list[Any] = [list(ids), [queue] * n, ["t"] * n, ["null"] * n, ["LOW"] * n, [None] * n, [None] * n, [None] * n,
                        ["{}"] * n, list(unique_keys or [None] * n)]
    query = "SELECT verdict, stored, holder FROM pgmill.submit_keyed(%s, %s, decode(%s, 'hex'), %s, %s, %s, %s," \
            " %s::text[]::pgmill.priority[], %s::timestamptz[], %s::int[], %s::float8[], %s, %s::text[])"
    row = session.execute(query, [scope, key, request, *lists]).fetchone()
    assert row
    return Answer(*row)


def new(count: int = 1) -> list[uuid.UUID]:
    return [uuid.uuid4() for _ in range(count)]


# ---- idempotency keys ----


def test_the_same_request_gets_the_same_tasks(mill: Mill) -> None:
    first, second = new(3), new(3)
    assert keyed(mill.db, first, KEY) == ("stored", first, None)
    assert keyed(mill.db, second, KEY) == ("same", first, None)
    assert mill.value("SELECT count(*) FROM pgmill.tasks") == 3
    assert keyed(mill.db, second, KEY, request="bb").verdict == "other"
    assert keyed(mill.db, second, KEY, scope="another token").verdict == "stored"
    assert keyed(mill.db, new(), "another key").verdict == "stored"


def test_sent_again_with_the_same_ids_it_is_still_stored(mill: Mill) -> None:
    ids = new(2)
    for _ in range(2):
        assert keyed(mill.db, ids, KEY, unique_keys=["u", None]) == ("stored", ids, None)
    assert mill.value("SELECT count(*) FROM pgmill.tasks") == 2


def test_an_expired_key_is_free(mill: Mill) -> None:
    first, second = new(), new()
    keyed(mill.db, first, KEY)
    mill.db.execute("UPDATE pgmill.idempotency SET expires_at = clock_timestamp()")
    assert keyed(mill.db, second, KEY, request="bb") == ("stored", second, None)
    assert keyed(mill.db, new(), KEY, request="bb") == ("same", second, None)


def test_a_key_in_flight_is_waited_for_half_a_second(mill: Mill) -> None:
    first = mill.connect(autocommit=False)
    keyed(first, new(), KEY)
    with pytest.raises(psycopg.errors.LockNotAvailable):
        keyed(mill.db, new(), KEY)
    first.rollback()
    assert keyed(mill.db, new(), KEY).verdict == "stored"


def waiting(mill: Mill, session: psycopg.Connection) -> bool:
    return bool(mill.value("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %s",
                           session.info.backend_pid))


@pytest.mark.parametrize("ending, verdict", [("commit", "same"), ("rollback", "stored")])
def test_who_waited_gets_what_became_of_the_first(mill: Mill, ending: str, verdict: str) -> None:
    first, second = mill.connect(autocommit=False), mill.connect()
    ids, own, answers = new(), new(), []
    keyed(first, ids, KEY)
    thread = threading.Thread(target=lambda: answers.append(keyed(second, own, KEY)))
    thread.start()
    eventually(lambda: waiting(mill, second))
    getattr(first, ending)()
    thread.join()
    assert answers == [(verdict, ids if verdict == "same" else own, None)]


def test_a_refused_task_leaves_no_key(mill: Mill) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        keyed(mill.db, new(), KEY, queue="no name")
    assert keyed(mill.db, new(), KEY).verdict == "stored"


# ---- unique keys ----


def test_one_unfinished_task_of_a_queue_has_the_key(mill: Mill) -> None:
    holder, other = new(), new()
    assert keyed(mill.db, holder, unique_keys=["u"]).verdict == "stored"
    assert keyed(mill.db, other, unique_keys=["u"]) == ("taken", [], holder[0])
    assert keyed(mill.db, new(), unique_keys=["u"], queue="q").verdict == "stored"
    assert keyed(mill.db, new(), unique_keys=["v"]).verdict == "stored"
    assert mill.row(other[0]) is None


def test_taken_means_nothing_is_stored(mill: Mill) -> None:
    keyed(mill.db, new(), unique_keys=["u"])
    many = new(3)
    assert keyed(mill.db, many, KEY, unique_keys=[None, "v", "u"]).verdict == "taken"
    assert [mill.row(id) for id in many] == [None] * 3
    assert keyed(mill.db, many, KEY, unique_keys=[None, "v", None]).verdict == "stored"


def test_twice_in_one_request_is_taken_by_nobody_else(mill: Mill) -> None:
    assert keyed(mill.db, new(2), unique_keys=["u", "u"]) == ("taken", [], None)


@pytest.mark.parametrize("outcome, state", [("completed", "completed"), ("failed", "failed"), ("cancelled", "cancelled"),
                                            ("retry", "ready"), ("returned", "ready"), ("deferred", "ready")])
def test_the_end_of_a_task_frees_its_key(mill: Mill, outcome: str, state: str) -> None:
    holder, worker = mill.submit(unique_key="u"), mill.worker()
    worker.finish(End(*worker.claim(), outcome))
    assert mill.row(holder).state == state
    assert keyed(mill.db, new(), unique_keys=["u"]).verdict == ("taken" if state == "ready" else "stored")


def test_a_rescue_keeps_the_key_and_a_cancelled_task_frees_it(mill: Mill) -> None:
    holder, worker = mill.submit(unique_key="u"), mill.worker()
    worker.claim()
    mill.bury(worker)
    mill.rescue(worker)
    assert keyed(mill.db, new(), unique_keys=["u"]) == ("taken", [], holder)
    mill.value("SELECT pgmill.cancel(%s)", holder)
    assert keyed(mill.db, new(), unique_keys=["u"]).verdict == "stored"


def test_retry_takes_the_key_again_unless_another_has_it(mill: Mill) -> None:
    first = mill.submit(unique_key="u")
    mill.value("SELECT pgmill.cancel(%s)", first)
    second = mill.submit(unique_key="u")
    assert mill.value("SELECT pgmill.retry(%s)", first) == "taken"
    assert mill.task(first).status == "CANCELLED"
    mill.value("SELECT pgmill.cancel(%s)", second)
    assert mill.value("SELECT pgmill.retry(%s)", first) == "done"
    assert keyed(mill.db, new(), unique_keys=["u"]) == ("taken", [], first)


def test_a_unique_key_in_flight_is_waited_for_half_a_second(mill: Mill) -> None:
    client = mill.connect(autocommit=False)
    client.execute("SELECT pgmill.submit('t', unique_key => 'u')")
    with pytest.raises(psycopg.errors.LockNotAvailable):
        keyed(mill.db, new(), unique_keys=["u"])
    client.rollback()
    assert keyed(mill.db, new(), unique_keys=["u"]).verdict == "stored"


def test_sql_clients_get_an_error(mill: Mill) -> None:
    mill.submit(unique_key="u")
    with pytest.raises(psycopg.errors.UniqueViolation, match="tasks_unique_key"):
        mill.submit(unique_key="u")


@pytest.mark.parametrize("key", ["", "x" * 201, "ü" * 101, "a\nb", "a\x7f"])
def test_what_is_no_key(mill: Mill, key: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="unique_key"):
        mill.submit(unique_key=key)


def test_of_many_at_once_one_is_stored(mill: Mill) -> None:
    """Of the same key, and of the same unique key."""
    sessions = [mill.connect() for _ in range(8)]
    for arguments in ({"key": KEY}, {"unique_keys": ["u"]}):
        answers: list[Answer] = []
        threads = [threading.Thread(target=lambda s=s: answers.append(keyed(s, new(), **arguments)))  # type: ignore[misc]
                   for s in sessions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(a.verdict for a in answers) == sorted(["stored"] + 7 * ["same" if "key" in arguments else "taken"])
        stored = next(a.ids[0] for a in answers if a.verdict == "stored")
        assert {a.ids[0] if "key" in arguments else a.holder for a in answers if a.verdict != "stored"} == {stored}
