# SPDX-License-Identifier: MIT
"""What an operator does to a task: pause, resume, cancel, retry."""

import uuid
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from .conftest import End, Mill

VERBS = ["pause", "resume"]
HELD_VERBS = [*VERBS, "cancel", "retry"]


def steer(mill: Mill, verb: str, id: uuid.UUID) -> str:
    return mill.value(f"SELECT pgmill.{verb}(%s)", id)


def test_a_paused_task_is_not_claimed_until_it_is_resumed(mill: Mill) -> None:
    id, worker = mill.submit(), mill.worker()
    assert steer(mill, "pause", id) == "done"
    assert mill.task(id).status == "PAUSED"
    assert worker.claim() == []
    assert steer(mill, "resume", id) == "done"
    assert mill.task(id).status == "AVAILABLE"
    assert [claim.id for claim in worker.claim()] == [id]


def test_once_more_changes_nothing(mill: Mill) -> None:
    id = mill.submit()
    before = mill.row(id)
    assert steer(mill, "resume", id) == "done"
    assert mill.row(id) == before
    steer(mill, "pause", id)
    paused = mill.row(id)
    assert steer(mill, "pause", id) == "done"
    assert mill.row(id) == paused


@pytest.mark.parametrize("verb", VERBS)
def test_what_cannot_be_done_says_why(mill: Mill, verb: str) -> None:
    id, worker = mill.submit(), mill.worker()
    assert steer(mill, verb, uuid.uuid4()) == "unknown"
    worker.finish(End(*worker.claim()))
    before = mill.row(id)
    assert steer(mill, verb, id) == "ended"
    assert mill.row(id) == before


def test_a_resumed_task_goes_to_the_end_of_the_line(mill: Mill) -> None:
    first, second = mill.submit(), mill.submit()
    steer(mill, "pause", first)
    steer(mill, "resume", first)
    assert [claim.id for claim in mill.worker().claim()] == [second, first]


def test_a_resumed_task_waits_on_for_its_time(mill: Mill) -> None:
    at = datetime.now(UTC) + timedelta(hours=1)
    id = mill.submit(scheduled_at=at)
    steer(mill, "pause", id)
    steer(mill, "resume", id)
    assert mill.row(id).due_at == at
    assert mill.task(id).status == "SCHEDULED"


def test_a_resumed_task_wakes_a_sleeper(mill: Mill) -> None:
    id, worker = mill.submit(), mill.worker()
    steer(mill, "pause", id)
    worker.call("listen")
    worker.sleep()
    steer(mill, "resume", id)
    assert worker.called() == 1


@pytest.mark.parametrize("verb", HELD_VERBS)
def test_a_task_that_somebody_holds_is_not_waited_for_long(mill: Mill, verb: str) -> None:
    id = mill.submit()
    mill.db.execute("SET statement_timeout = '2s'")
    with mill.held(id), pytest.raises(psycopg.errors.LockNotAvailable):
        steer(mill, verb, id)
    assert steer(mill, verb, id) == "done"


@pytest.mark.parametrize("verb", HELD_VERBS)
def test_the_client_keeps_its_own_patience(mill: Mill, verb: str) -> None:
    """In a client's transaction the function's short lock_timeout ends with the function."""
    id = mill.submit()
    with mill.db.transaction():
        mill.db.execute("SET LOCAL lock_timeout = '7s'")
        steer(mill, verb, id)
        assert mill.value("SELECT current_setting('lock_timeout')") == "7s"


def test_a_task_is_read_as_the_same_statement_left_it(mill: Mill) -> None:
    id = mill.submit()
    query = "SELECT verdict, status FROM (SELECT pgmill.pause(%s) AS verdict) v LEFT JOIN LATERAL" \
            " pgmill.read(%s, verdict) ON true"
    assert mill.db.execute(query, [id, id]).fetchall() == [("done", "PAUSED")]
    nothing = uuid.uuid4()
    assert mill.db.execute(query, [nothing, nothing]).fetchall() == [("unknown", None)]


# ---- pausing what runs ----


def paused_of(mill: Mill) -> int:
    return mill.value("SELECT sum(paused) FROM pgmill.tallies") or 0


def test_a_running_task_is_paused_once_its_worker_says_so(mill: Mill) -> None:
    id, worker = mill.submit(), mill.worker()
    claim, = worker.claim()
    worker.call("listen")
    assert steer(mill, "pause", id) == "asked"
    assert worker.called() == 1 and worker.orders() == {claim[:2]: {"pause"}}
    assert mill.task(id).status == "RUNNING" and mill.task(id).paused_at is not None
    worker.obey(claim, "frozen")
    assert mill.task(id).status == "PAUSED" and worker.orders() == {claim[:2]: {"pause", "frozen"}}
    assert steer(mill, "pause", id) == "done"
    assert steer(mill, "resume", id) == "asked"
    assert mill.task(id).status == "PAUSED" and worker.orders() == {claim[:2]: {"frozen"}}
    worker.obey(claim, "thawed")
    assert mill.task(id).status == "RUNNING" and worker.orders() == {}
    assert steer(mill, "resume", id) == "done"
    worker.finish(End(claim))
    assert mill.task(id).status == "COMPLETED" and paused_of(mill) == 0


def test_what_cannot_stand_still_is_not_paused(mill: Mill) -> None:
    id, worker = mill.submit(), mill.worker()
    claim, = worker.claim()
    steer(mill, "pause", id)
    for _ in range(2):
        worker.obey(claim, "unable")
    assert mill.task(id).status == "RUNNING" and worker.orders() == {} and paused_of(mill) == 0


@pytest.mark.parametrize("outcome, status", [("returned", "PAUSED"), ("retry", "PAUSED"), ("completed", "COMPLETED"),
                                             ("failed", "FAILED"), ("cancelled", "CANCELLED")])
def test_a_frozen_run_that_ends(mill: Mill, outcome: str, status: str) -> None:
    id, worker = mill.submit(), mill.worker()
    claim, = worker.claim()
    steer(mill, "pause", id)
    worker.obey(claim, "frozen")
    worker.finish(End(claim, outcome))
    assert mill.task(id).status == status and mill.row(id).frozen_at is None
    assert paused_of(mill) == (status == "PAUSED")
    if status == "PAUSED":
        assert worker.claim() == []
        steer(mill, "resume", id)
        assert [again.id for again in worker.claim()] == [id] and mill.task(id).status == "RUNNING"


def test_a_word_that_comes_late_changes_nothing(mill: Mill) -> None:
    id, worker, other = mill.submit(), mill.worker(), mill.worker()
    claim, = worker.claim()
    other.obey(claim, "frozen")
    assert mill.task(id).status == "RUNNING"
    worker.finish(End(claim, "returned"))
    worker.claim()
    worker.obey(claim, "frozen")
    assert mill.task(id).status == "RUNNING"


def test_a_word_about_a_task_that_somebody_holds_waits_for_nobody(mill: Mill) -> None:
    id, worker = mill.submit(), mill.worker()
    claim, = worker.claim()
    steer(mill, "pause", id)
    worker.session.execute("SET statement_timeout = '2s'")
    with mill.held(id):
        worker.obey(claim, "frozen")
    assert worker.orders() == {claim[:2]: {"pause"}}
    worker.obey(claim, "frozen")
    assert mill.task(id).status == "PAUSED"


def test_a_task_of_a_dead_worker_stays_paused(mill: Mill) -> None:
    id, worker = mill.submit(), mill.worker()
    claim, = worker.claim()
    steer(mill, "pause", id)
    worker.obey(claim, "frozen")
    mill.bury(worker)
    mill.rescue(worker)
    assert mill.task(id).status == "PAUSED" and mill.row(id).frozen_at is None


# ---- cancel ----


def test_what_waits_is_cancelled_at_once(mill: Mill) -> None:
    later, paused, id = mill.submit(scheduled_at=datetime.now(UTC) + timedelta(hours=1)), mill.submit(), mill.submit()
    steer(mill, "pause", paused)
    worker = mill.worker()
    for task in (later, paused, id):
        assert steer(mill, "cancel", task) == "done"
        assert mill.task(task).status == "CANCELLED"
        assert mill.row(task).finished_at is not None
        before = mill.row(task)
        assert steer(mill, "cancel", task) == "done"  # once more changes nothing
        assert mill.row(task) == before
    assert worker.claim() == []
    assert steer(mill, "resume", paused) == "ended"


def test_the_worker_of_what_runs_is_told_and_can_ask(mill: Mill) -> None:
    asked, other = mill.submit(), mill.submit()
    worker = mill.worker()
    claims = {claim.id: claim for claim in worker.claim()}
    worker.call("listen")
    assert worker.orders() == {}
    for _ in range(2):
        assert steer(mill, "cancel", asked) == "asked"
    assert worker.called() == 2
    assert {call.payload for call in worker.calls} == {"orders"}
    assert worker.orders() == {claims[asked][:2]: {"cancel"}}
    assert mill.task(asked).status == "RUNNING"
    worker.finish(End(claims[asked], "cancelled", error='{"error": "cancelled"}'))
    task = mill.task(asked)
    assert (task.status, task.attempt, task.error) == ("CANCELLED", 1, "cancelled")
    assert worker.orders() == {}
    assert mill.task(other).status == "RUNNING"


@pytest.mark.parametrize("attempts", [1, 3])
def test_a_cancelled_task_of_a_dead_worker_does_not_run_again(mill: Mill, attempts: int) -> None:
    id, worker = mill.submit(max_attempts=attempts), mill.worker()
    worker.claim()
    worker.finish()  # now it may have begun
    assert steer(mill, "cancel", id) == "asked"
    mill.bury(worker)
    mill.rescue(worker)
    assert mill.task(id).status == "CANCELLED"


def test_a_completed_task_cannot_be_cancelled(mill: Mill) -> None:
    id, worker = mill.submit(), mill.worker()
    worker.finish(End(*worker.claim()))
    before = mill.row(id)
    assert steer(mill, "cancel", id) == "ended"
    assert steer(mill, "cancel", uuid.uuid4()) == "unknown"
    assert mill.row(id) == before


# ---- retry ----


@pytest.mark.parametrize("outcome, of, after", [("failed", 3, 3), ("retry", 1, 2), ("cancelled", 3, 3)])
def test_what_did_not_succeed_runs_again(mill: Mill, outcome: str, of: int, after: int) -> None:
    id, worker = mill.submit(max_attempts=of), mill.worker()
    worker.finish(End(*worker.claim(), outcome, error='{"error": "no"}'))
    worker.call("listen")
    worker.sleep()
    assert steer(mill, "retry", id) == "done"
    assert worker.called() == 1
    row = mill.row(id)
    assert (mill.task(id).status, row.max_attempts, row.finished_at, len(row.errors)) == ("AVAILABLE", after, None, 1)
    worker.finish(End(*worker.claim()))
    assert mill.task(id).status == "COMPLETED"
    assert steer(mill, "retry", id) == "ended"


def test_what_was_cancelled_while_paused_is_not_paused_any_more(mill: Mill) -> None:
    id, worker = mill.submit(), mill.worker()
    steer(mill, "pause", id)
    steer(mill, "cancel", id)
    assert steer(mill, "retry", id) == "done"
    assert [claim.id for claim in worker.claim()] == [id]


def test_what_waits_for_its_time_is_due_now(mill: Mill) -> None:
    later = mill.submit(scheduled_at=datetime.now(UTC) + timedelta(hours=1))
    worker = mill.worker()
    assert steer(mill, "retry", later) == "done"
    claim, = worker.claim()
    worker.finish(End(claim, "retry", delay=600))
    assert mill.task(later).status == "RETRYABLE"
    assert steer(mill, "retry", later) == "done"
    before = mill.row(later)
    assert steer(mill, "retry", later) == "done"  # AVAILABLE keeps its place
    assert mill.row(later) == before
    worker.claim()
    assert steer(mill, "retry", later) == "running"
    assert steer(mill, "retry", uuid.uuid4()) == "unknown"
