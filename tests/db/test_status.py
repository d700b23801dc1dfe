# SPDX-License-Identifier: MIT
"""The status that everybody sees: stored state, flags and the clock in one expression."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from .conftest import End, Mill


def test_a_task_that_waits_for_its_time_becomes_available_by_itself(mill: Mill) -> None:
    id = mill.submit(scheduled_at=datetime.now(UTC) + timedelta(seconds=0.3))
    assert mill.task(id).status == "SCHEDULED"
    time.sleep(0.35)
    assert mill.task(id).status == "AVAILABLE"


def test_a_task_that_waits_for_another_attempt_becomes_available_by_itself(mill: Mill) -> None:
    id, worker = mill.submit(), mill.worker()
    worker.finish(End(*worker.claim(), "retry", error='{"error": "no"}', delay=0.3))
    assert mill.task(id).status == "RETRYABLE"
    time.sleep(0.35)
    assert mill.task(id).status == "AVAILABLE"


@pytest.mark.parametrize("outcome, delay, status", [
    ("completed", None, "COMPLETED"), ("failed", None, "FAILED"), ("retry", 60, "RETRYABLE"),
    ("deferred", 60, "RETRYABLE"), ("returned", None, "AVAILABLE"),
])
def test_after_a_run(mill: Mill, outcome: str, delay: float | None, status: str) -> None:
    id, worker = mill.submit(), mill.worker()
    worker.finish(End(*worker.claim(), outcome, delay=delay))
    assert mill.task(id).status == status


def test_running_and_cancelled(mill: Mill) -> None:
    id, worker = mill.submit(), mill.worker()
    claim, = worker.claim()
    assert mill.task(id).status == "RUNNING"
    mill.change(id, cancel_at="now")
    assert mill.task(id).status == "RUNNING"
    worker.finish(End(claim, "returned"))
    assert mill.task(id).status == "CANCELLED"


def test_paused_covers_what_has_not_ended(mill: Mill) -> None:
    waiting, running, ended = mill.submit(), mill.submit(), mill.submit()
    worker = mill.worker()
    mill.db.execute("SELECT pgmill.pause(%s)", [waiting])
    claims = worker.claim()
    mill.change(running, paused_at="now")
    mill.change(ended, paused_at="now", frozen_at="now")
    worker.finish(*(End(c) for c in claims if c.id == ended))
    assert [mill.task(id).status for id in (waiting, running, ended)] == ["PAUSED", "RUNNING", "COMPLETED"]
    mill.change(running, frozen_at="now")  # as its worker says
    assert mill.task(running).status == "PAUSED"


def test_the_error_shown_is_the_last_one(mill: Mill) -> None:
    id, worker = mill.submit(), mill.worker()
    for text in ("first", "second"):
        worker.finish(End(*worker.claim(), "retry", error=f'{{"error": "{text}"}}', delay=0))
    assert mill.task(id).error == "second"
    assert [error["error"] for error in mill.task(id).errors] == ["first", "second"]
