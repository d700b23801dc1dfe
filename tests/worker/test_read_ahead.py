# SPDX-License-Identifier: MIT
"""ReadAhead=: tasks that are here before there is a slot for them, and have not begun."""

import contextlib
import signal
import uuid

import pytest

from support.process import Process, eventually

from .conftest import Mill
from .test_stream import stream


def claimed(mill: Mill) -> set[uuid.UUID]:
    return {id for id, in mill.db.execute("SELECT id FROM pgmill.task WHERE status = 'RUNNING'")}


def begin(mill: Mill, slots: str = "1", **keys: str) -> Process:
    """Nothing is read ahead before it is known how long an attempt takes."""
    stream(mill, ReadAhead="3", **keys)
    worker = mill.start("w", "--concurrency", slots, "--grace", "2min")  # signs of life put much right, every 20 s
    for _ in range(20):
        mill.ended(mill.submit("t", '"pid"'))
    return worker


def submit(mill: Mill, *payloads: str) -> list[uuid.UUID]:
    with mill.db.transaction():
        return [mill.submit("t", payload) for payload in payloads]


def ahead(mill: Mill, n: int, *payloads: str) -> list[uuid.UUID]:
    """Tasks of which the worker takes n. On a machine that stood still it holds attempts for long ones at first, and takes less."""
    for _ in range(10):
        ids = submit(mill, *payloads)
        with contextlib.suppress(AssertionError):
            eventually(lambda: claimed(mill) == set(ids[:n]), within=3)
            return ids
        for id in ids:
            mill.db.execute("SELECT pgmill.cancel(%s)", [id])
        for _ in range(20):
            mill.ended(mill.submit("t", '"pid"'))
    raise AssertionError("it does not read ahead")


@pytest.fixture
def busy(mill: Mill) -> tuple[Process, list[uuid.UUID]]:
    """The slot is taken by the first task; three of the five behind it are here."""
    worker = begin(mill)
    return worker, ahead(mill, 4, '"hold"', *['"message"'] * 5)


def reload(worker: Process) -> None:
    before = worker.log.count("Read ")
    worker.signal(signal.SIGHUP)
    worker.wait_for(lambda: worker.log.count("Read ") > before, "handlers read again")


def untouched(mill: Mill, id: uuid.UUID, status: str) -> None:
    task = mill.until(id, status, within=8)
    assert (task["attempt"], task["errors"]) == (0, []), task


def test_they_begin_in_order_when_the_slot_is_free(mill: Mill, busy: tuple[Process, list[uuid.UUID]]) -> None:
    worker, ids = busy
    mill.db.execute("SELECT pgmill.cancel(%s)", [ids[0]])
    for id in ids[1:]:
        worker.wait_log(f"{id}: Completed")
    begins = [worker.log.index(f"{id}: Attempt 1") for id in ids]
    assert begins == sorted(begins)


def test_no_more_than_concurrency_are_begun(mill: Mill) -> None:
    worker = begin(mill, slots="4", Concurrency="1")
    ids = ahead(mill, 4, '"hold"', *['"pid"'] * 3)
    mill.db.execute("SELECT pgmill.cancel(%s)", [ids[0]])
    for id in ids[1:]:
        worker.wait_log(f"{id}: Completed")
    assert worker.log.index(f"{ids[0]}: Cancelling") < min(worker.log.index(f"{id}: Attempt 1") for id in ids[1:])


@pytest.mark.parametrize("ask, status", [("cancel", "CANCELLED"), ("pause", "PAUSED")])
def test_one_that_waits_is_steered_as_if_it_had_not_been_claimed(
        mill: Mill, busy: tuple[Process, list[uuid.UUID]], ask: str, status: str) -> None:
    _, ids = busy
    mill.db.execute(f"SELECT pgmill.{ask}(%s)", [ids[2]])
    untouched(mill, ids[2], status)


def test_a_drain_gives_them_back(mill: Mill) -> None:
    worker = begin(mill)
    ids = ahead(mill, 4, '{"slow": 30}', *['"message"'] * 3)
    worker.signal(signal.SIGTERM)
    for id in ids[1:]:
        untouched(mill, id, "AVAILABLE")
    assert claimed(mill) == set(ids[:1])


def one_of_three_has_begun(mill: Mill) -> bool:
    return mill.db.execute("SELECT started, cardinality(held) FROM pgmill.heartbeats").fetchone() == (1, 3)


def test_only_what_began_is_blamed_when_the_worker_dies(mill: Mill) -> None:
    """It waited for a slot itself, and others wait behind it."""
    worker = begin(mill)
    for _ in range(10):  # on a machine that stands still for a second they go back
        ids = ahead(mill, 4, *['"hold"'] * 2, *['"message"'] * 2)
        mill.db.execute("SELECT pgmill.cancel(%s)", [ids[0]])
        with contextlib.suppress(AssertionError):
            eventually(lambda: one_of_three_has_begun(mill), within=2)
            break
        for id in ids:
            mill.db.execute("SELECT pgmill.cancel(%s)", [id])
            mill.until(id, "CANCELLED", "COMPLETED")
    id, = mill.db.execute("SELECT worker FROM pgmill.heartbeats").fetchone()
    worker.kill()
    eventually(lambda: mill.db.execute("SELECT pgmill.give_up(%s, beat) FROM pgmill.heartbeats", [id]).fetchone()[0])
    eventually(lambda: mill.db.execute("SELECT pgmill.rescue(%s)", [id]).fetchone()[0] == 3)
    assert mill.show(ids[1])["attempt"] == 1
    for waiting in ids[2:]:
        untouched(mill, waiting, "AVAILABLE")


def test_a_lost_session_loses_none(mill: Mill, busy: tuple[Process, list[uuid.UUID]]) -> None:
    worker, ids = busy
    mill.db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgmill-worker@w'")
    worker.wait_log("Waiting for the database")
    mill.db.execute("SELECT pgmill.cancel(%s)", [ids[0]])
    assert [mill.ended(id)["attempt"] for id in ids[1:]] == [1] * 5


def test_slow_tasks_are_left_to_others(mill: Mill) -> None:
    """What its slot does not get done in a tenth of a second is not read ahead."""
    begin(mill)
    for _ in range(12):  # the mean of late attempts
        mill.ended(mill.submit("t", '{"slow": 0.2}'))
    ids = submit(mill, '"hold"', *['"message"'] * 3)
    eventually(lambda: claimed(mill) == set(ids[:1]))
    mill.start("other")
    assert {mill.ended(id)["worker"] for id in ids[1:]} != {mill.show(ids[0])["worker"]}


def test_they_do_not_wait_behind_one_that_takes_long(mill: Mill, busy: tuple[Process, list[uuid.UUID]]) -> None:
    _, ids = busy
    mill.start("other")
    for id in ids[1:]:
        assert mill.ended(id)["attempt"] == 1
    assert mill.show(ids[0])["status"] == "RUNNING"


def test_others_are_told_first(mill: Mill) -> None:
    """Who could only read ahead does not count among those who sleep."""
    begin(mill)
    hold, = submit(mill, '"hold"')
    eventually(lambda: claimed(mill) == {hold})
    sleepers = "SELECT count(*) FROM pgmill.sleepers"
    eventually(lambda: mill.db.execute(sleepers).fetchone() == (0,))


def test_one_that_is_no_longer_its_worker_s_does_not_begin(mill: Mill, busy: tuple[Process, list[uuid.UUID]]) -> None:
    """As after a failover to a server that never saw the claim."""
    worker, ids = busy
    with mill.db.transaction():  # the worker's session does nothing in between
        mill.db.execute("UPDATE pgmill.heartbeats SET held = array_remove(held, %s)", [ids[1]])
        mill.db.execute("UPDATE pgmill.tasks SET state = 'ready', ready = true, worker = NULL, attempt = 0 WHERE id = %s",
                        [ids[1]])
        mill.db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgmill-worker@w'")
    worker.wait_for(lambda: worker.log.count("Ready as worker") == 2, "session")
    mill.db.execute("SELECT pgmill.cancel(%s)", [ids[0]])
    assert mill.ended(ids[1])["attempt"] == 1
    worker.wait_log(f"{ids[1]}: Completed")
    assert worker.log.count(f"{ids[1]}: Attempt 1") == 1


def test_a_reload_while_they_are_claimed_begins_no_more_than_concurrency(mill: Mill) -> None:
    worker = begin(mill, slots="4", Concurrency="1")
    mill.handler("other", "exit 0")
    reload(worker)
    for _ in range(20):
        mill.ended(mill.submit("t", '"pid"'))
    hold, = submit(mill, '"hold"')
    eventually(lambda: claimed(mill) == {hold})
    mill.db.execute("SELECT pg_advisory_lock(pgmill.lock_class('queue'), hashtext('default'))")
    ids = submit(mill, *['"pid"'] * 2)
    last = mill.submit("other")
    waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    eventually(lambda: mill.db.execute(waits).fetchone() == (1,))
    stream(mill, Concurrency="1")
    reload(worker)
    mill.db.execute("SELECT pg_advisory_unlock(pgmill.lock_class('queue'), hashtext('default'))")
    mill.ended(last)
    mill.db.execute("SELECT pgmill.cancel(%s)", [hold])
    for id in ids:
        worker.wait_log(f"{id}: Completed")
    assert worker.log.index(f"{hold}: Cancelling") < min(worker.log.index(f"{id}: Attempt 1") for id in ids)
