# SPDX-License-Identifier: MIT
"""Pause and resume of tasks that do not run."""

import uuid
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from .conftest import End, Mill

VERBS = ["pause", "resume"]


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
    claim, = worker.claim()
    assert steer(mill, verb, id) == "running"
    worker.finish(End(claim))
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


@pytest.mark.parametrize("verb", VERBS)
def test_a_task_that_somebody_holds_is_not_waited_for_long(mill: Mill, verb: str) -> None:
    id = mill.submit()
    mill.db.execute("SET statement_timeout = '2s'")
    with mill.held(id), pytest.raises(psycopg.errors.LockNotAvailable):
        steer(mill, verb, id)
    assert steer(mill, verb, id) == "done"


@pytest.mark.parametrize("verb", VERBS)
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
