# SPDX-License-Identifier: MIT
"""The claim: its order, its limits, and sessions that race for the same rows."""

import threading
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from support.process import eventually

from .conftest import START, Claim, End, Mill, Worker

SECOND = timedelta(seconds=1)
LEVELS = ["LOW", "MEDIUM", "HIGH", "CRITICAL"]


def ids(claims: Sequence[Claim]) -> list[uuid.UUID]:
    return [claim.id for claim in claims]


def moved(position: Sequence[list[Any]], claims: Sequence[Claim]) -> Sequence[list[Any]]:
    """The position after these claims, as a worker remembers it."""
    due, last = list(position[0]), list(position[1])
    for claim in claims:
        level = LEVELS.index(claim.priority)
        due[level], last[level] = str(claim.due_at), claim.id
    return due, last


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Each call in a thread of its own, all let go at the same moment."""
    gate = threading.Barrier(len(calls))

    def go(call: Callable[[], Any]) -> Any:
        gate.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(go, calls))


def waits(mill: Mill, session: psycopg.Connection) -> bool:
    """Whether this session waits for a lock."""
    return mill.value("SELECT cardinality(pg_blocking_pids(%s)) > 0", session.info.backend_pid)


# ---- order ----


def test_priority_then_due_time_then_id(mill: Mill) -> None:
    due = datetime.now(UTC)
    third, first, second = mill.submit(), mill.submit(priority="CRITICAL"), mill.submit(priority="HIGH")
    fourth, fifth, sixth = sorted(mill.submit() for _ in range(3))
    last = mill.submit(priority="LOW")
    for id in (fourth, fifth, sixth):
        mill.change(id, due_at=due + SECOND / 10)
    mill.change(third, due_at=due)
    mill.change(last, due_at=due - 3600 * SECOND)
    eventually(lambda: datetime.now(UTC) > due + SECOND / 10)
    assert ids(mill.worker().claim()) == [first, second, third, fourth, fifth, sixth, last]


def test_no_more_than_the_slots_across_priorities(mill: Mill) -> None:
    low, medium, high = mill.submit(priority="LOW"), mill.submit(), mill.submit(priority="HIGH")
    worker = mill.worker()
    assert worker.claim(0) == []
    assert ids(worker.claim(2)) == [high, medium]
    assert ids(worker.claim(2)) == [low]
    assert worker.claim(2) == []


def test_only_names_it_has_and_only_of_the_queue(mill: Mill) -> None:
    mill.submit("other")
    mine, elsewhere = mill.submit("b"), mill.submit("b", queue="q")
    worker = mill.worker(["a", "b"], [1, 2])
    assert ids(worker.claim()) == [mine]
    assert ids(worker.claim(queue="q")) == [elsewhere]


def test_what_is_due_later_is_not_taken(mill: Mill) -> None:
    worker = mill.worker()
    later = mill.submit(scheduled_at=datetime.now(UTC) + SECOND / 2)
    assert worker.claim() == []
    eventually(worker.claim, 5)
    row = mill.row(later)
    assert row.started_at >= row.due_at


def test_a_claim_is_written_into_the_row(mill: Mill) -> None:
    given, default = mill.submit("b", max_attempts=9), mill.submit("b")
    worker = mill.worker(["a", "b"], [1, 4])
    worker.claim()
    row = mill.row(default)
    assert (row.state, row.ready, row.worker, row.claim_no, row.attempt) == ("running", False, worker.id, 1, 1)
    assert [mill.row(id).max_attempts for id in (given, default)] == [9, 4]
    assert mill.heartbeat(worker).held == [given, default]
    assert mill.heartbeat(worker).started == 0


def test_claim_no_rises_with_every_claim(mill: Mill) -> None:
    mill.submit()
    worker, seen = mill.worker(), []
    for outcome in ("returned", "retry", "deferred", "returned"):
        claim, = worker.claim()
        seen.append(claim.claim_no)
        worker.finish(End(claim, outcome, delay=None if outcome == "returned" else 0))
    assert seen == [1, 2, 3, 4]
    assert mill.row(claim.id).attempt == 1


# ---- positions ----


def test_a_position_goes_on_where_the_last_claim_stopped(mill: Mill) -> None:
    tasks = [mill.submit() for _ in range(5)]
    worker, position = mill.worker(), START
    claims = worker.claim(2, after=position)
    worker.finish(*(End(claim, "returned") for claim in claims))  # they keep their place, now behind the position
    position = moved(position, claims)
    claims = worker.claim(2, after=position)
    assert ids(claims) == tasks[2:4]
    assert ids(worker.claim(9, after=moved(position, claims))) == tasks[4:]
    assert ids(worker.claim(9)) == tasks[:2]


def test_each_priority_has_its_own_position(mill: Mill) -> None:
    mill.submit(priority="HIGH")
    medium = mill.submit()
    worker = mill.worker()
    position = moved(START, worker.claim(1))
    high = mill.submit(priority="HIGH")
    assert ids(worker.claim(9, after=position)) == [high, medium]


def test_ids_decide_within_the_same_time(mill: Mill) -> None:
    tasks = sorted(mill.submit() for _ in range(4))
    mill.db.execute("UPDATE pgmill.tasks SET due_at = now()")
    worker = mill.worker()
    claims = worker.claim(2)
    assert ids(claims) == tasks[:2]
    assert ids(worker.claim(9, after=moved(START, claims))) == tasks[2:]


# ---- beside others ----


def test_a_row_of_an_open_transaction_is_neither_taken_nor_waited_for(mill: Mill) -> None:
    first, held, last = (mill.submit() for _ in range(3))
    worker = mill.worker()
    worker.session.execute("SET statement_timeout = '1s'")
    with mill.held(held):
        claims = worker.claim()
        assert ids(claims) == [first, last]
    assert worker.claim(after=moved(START, claims)) == []  # its place is behind the position
    assert ids(worker.claim()) == [held]  # and a scan from the start finds it


def test_what_an_open_transaction_paused_stays_paused(mill: Mill) -> None:
    id, worker, client = mill.submit(), mill.worker(), mill.connect(autocommit=False)
    client.execute("SELECT pgmill.pause(%s)", [id])
    assert worker.claim() == []
    client.commit()
    assert worker.claim() == []
    assert mill.task(id).status == "PAUSED"


def test_racing_workers_get_each_row_once(mill: Mill) -> None:
    mill.submit_many(2000)
    workers = [mill.worker() for _ in range(4)]

    def drain(worker: Worker) -> list[uuid.UUID]:
        got: list[uuid.UUID] = []
        while claims := worker.claim(37):
            got += ids(claims)
        return got

    taken = sum(at_once(*(lambda w=w: drain(w) for w in workers)), [])
    assert len(taken) == len(set(taken)) == 2000
    assert mill.value("SELECT count(*) FROM pgmill.tasks WHERE claim_no = 1 AND state = 'running'") == 2000
    assert sum(len(mill.heartbeat(w).held) for w in workers) == 2000


def test_claims_of_a_queue_come_one_after_the_other(mill: Mill) -> None:
    first, second, elsewhere = mill.submit(), mill.submit(), mill.submit(queue="q")
    one, two, three = mill.worker(), mill.worker(), mill.worker()
    one.session.autocommit = False
    assert ids(one.claim(1)) == [first]
    with ThreadPoolExecutor() as pool:
        claim = pool.submit(two.claim, 1)
        eventually(lambda: waits(mill, two.session), 2)
        assert ids(three.claim(queue="q")) == [elsewhere]  # another queue does not wait
        one.session.commit()
        assert ids(claim.result(5)) == [second]


def test_a_claim_gives_up_waiting_for_its_queue(mill: Mill) -> None:
    one, two = mill.worker(), mill.worker()
    one.session.autocommit = False
    one.claim()
    two.session.execute("SET lock_timeout = '100ms'")
    with pytest.raises(psycopg.errors.LockNotAvailable):
        two.claim()


def test_what_came_while_it_waited_is_seen(mill: Mill) -> None:
    """The rows are read, and the clock too, when the lock is there."""
    one, two = mill.worker(), mill.worker()
    one.session.autocommit = False
    one.claim()
    with ThreadPoolExecutor() as pool:
        claim = pool.submit(two.claim)
        eventually(lambda: waits(mill, two.session), 2)
        late = mill.submit()
        one.session.commit()
        assert ids(claim.result(5)) == [late]


# ---- queues ----


def test_a_paused_queue_gives_nothing(mill: Mill) -> None:
    id, other, worker = mill.submit(), mill.submit(queue="q"), mill.worker()
    mill.db.execute("INSERT INTO pgmill.queues (name, paused) VALUES ('default', true)")
    assert worker.claim() == []
    assert ids(worker.claim(queue="q")) == [other]
    mill.db.execute("UPDATE pgmill.queues SET paused = false")
    assert ids(worker.claim()) == [id]


def test_a_limit_holds_across_workers(mill: Mill) -> None:
    mill.submit_many(10)
    mill.submit_many(2, queue="q")
    mill.db.execute("INSERT INTO pgmill.queues (name, max_running) VALUES ('default', 3)")
    one, two = mill.worker(), mill.worker()
    assert len(one.claim(queue="q")) == 2  # another queue's tasks do not count
    claims = one.claim(2)
    assert [len(claims), len(two.claim(9)), len(one.claim(9))] == [2, 1, 0]
    mill.change(claims[0].id, paused_at="now")  # a paused run keeps its place
    assert two.claim(9) == []
    one.finish(End(claims[0]), End(claims[1], "returned"))
    assert len(two.claim(9)) == 2
    mill.db.execute("UPDATE pgmill.queues SET max_running = 0")
    assert one.claim(9) == []


def test_a_limit_is_exact_while_workers_race(mill: Mill) -> None:
    mill.submit_many(400)
    mill.db.execute("INSERT INTO pgmill.queues (name, max_running) VALUES ('default', 5)")
    workers, done = [mill.worker() for _ in range(4)], threading.Event()
    running = "SELECT count(*) FROM pgmill.tasks WHERE state = 'running'"

    def drain(worker: Worker) -> int:
        count = 0
        while not done.is_set():
            claims = worker.claim(3)
            worker.finish(*(End(claim) for claim in claims))
            count += len(claims)
            if worker.session.execute("SELECT count(*) FROM pgmill.tasks WHERE ready").fetchone()[0] == 0:
                done.set()
        return count

    def watch() -> int:
        most, session = 0, mill.connect()
        while not done.is_set():
            most = max(most, session.execute(running).fetchone()[0])
        return most

    most, *counts = at_once(watch, *(lambda w=w: drain(w) for w in workers))
    assert sum(counts) == 400
    assert 1 <= most <= 5


# ---- room for each name ----


def test_few_slots_get_the_most_urgent_of_all_names(mill: Mill) -> None:
    worker = mill.worker(names=["a", "b"], tries=[1, 1])
    low, high, critical = mill.submit("a", priority="LOW"), mill.submit("b", priority="HIGH"), mill.submit("a", priority="CRITICAL")
    assert [ids(worker.claim(1)) for _ in range(3)] == [[critical], [high], [low]]


def test_no_more_of_a_name_than_there_is_room(mill: Mill) -> None:
    worker = mill.worker(names=["a", "b", "c"], tries=[1, 1, 1])
    line = [mill.submit(name, priority=p) for p in ("HIGH", "LOW") for name in ("a", "a", "b", "c", "c")]
    assert ids(worker.claim(9, room=[1, 2, 3])) == [line[0], line[2], line[3], line[4], line[7], line[8]]
    assert ids(worker.claim(2, room=[2, 2, 2])) == [line[1], line[5]]


def test_names_in_front_that_it_has_not_cost_no_place(mill: Mill) -> None:
    mill.submit_many(50, name="foreign")
    id, worker = mill.submit(), mill.worker()
    assert ids(worker.claim(1)) == [id]


def test_behind_rows_that_are_held_others_are_found(mill: Mill) -> None:
    held, free = [mill.submit() for _ in range(3)], [mill.submit() for _ in range(3)]
    worker = mill.worker()
    with mill.held(*held):
        assert ids(worker.claim(2)) == free[:2]
        assert ids(worker.claim(2)) == free[2:]
    assert ids(worker.claim(9)) == held


def test_a_held_row_takes_no_room(mill: Mill) -> None:
    worker = mill.worker(names=["a", "b"], tries=[1, 1])
    first, held, second, other = mill.submit("b"), mill.submit("a"), mill.submit("a"), mill.submit("b")
    with mill.held(held):
        assert ids(worker.claim(9, room=[1, 1])) == [first, second]
    assert ids(worker.claim(9, room=[2, 2])) == [held, other]


# ---- who may claim, and what it costs ----


def refused(mill: Mill, worker: Worker) -> None:
    id = mill.submit()
    with pytest.raises(psycopg.Error) as caught:
        worker.claim()
    assert caught.value.sqlstate == "PM001"
    row = mill.row(id)
    assert (row.state, row.worker, row.claim_no, row.attempt, row.ready) == ("ready", None, 0, 0, True)


def test_a_stranger_is_refused_and_nothing_stays_claimed(mill: Mill) -> None:
    worker = mill.worker()
    worker.id = uuid.uuid4()
    refused(mill, worker)


def test_a_worker_that_was_given_up_is_refused(mill: Mill) -> None:
    worker = mill.worker()
    mill.bury(worker)
    worker.session = mill.connect()
    refused(mill, worker)


def test_a_worker_that_left_is_refused(mill: Mill) -> None:
    worker = mill.worker()
    assert worker.call("leave")
    refused(mill, worker)


def test_only_the_claim_itself_commits_asynchronously(mill: Mill) -> None:
    mill.submit()
    worker = mill.worker()
    settings = "SELECT current_setting('synchronous_commit'), current_setting('lock_timeout')"
    before = worker.session.execute(settings).fetchone()
    with worker.session.transaction():
        worker.claim()
        assert worker.session.execute(settings).fetchone()[0] == "off"  # still so when it commits
    assert worker.session.execute(settings).fetchone() == before == ("on", "0")
