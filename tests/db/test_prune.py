# SPDX-License-Identifier: MIT
"""Retention forgets what ended long enough ago, and nothing else."""

import subprocess
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from .conftest import End, Mill

HOUR = timedelta(hours=1)


def made(age: timedelta) -> uuid.UUID:
    """A version 7 UUID of that time."""
    milliseconds = int((datetime.now(UTC) - age).timestamp() * 1000)
    return uuid.UUID(int=milliseconds << 80 | 7 << 76 | uuid.uuid4().int & (1 << 76) - 1)


def ended(mill: Mill, state: str, ago: timedelta, age: timedelta | None = None) -> uuid.UUID:
    id = mill.submit(id=made(age or ago + HOUR))
    mill.change(id, state=state, ready=False, finished_at=datetime.now(UTC) - ago)
    return id


def prune(mill: Mill, completed: str | None = "7d", cancelled: str | None = "7d", failed: str | None = "30d",
          size: int = 100) -> int:
    after, total = None, 0
    while True:
        after, gone = mill.db.execute("SELECT * FROM pgmill.prune(%s, %s, %s, %s, %s)",
                                      [completed, cancelled, failed, after, size]).fetchone()
        total += gone
        if after is None:
            return total


def test_each_end_is_kept_for_its_own_time(mill: Mill) -> None:
    gone = [ended(mill, "completed", 8 * 24 * HOUR), ended(mill, "cancelled", 8 * 24 * HOUR),
            ended(mill, "failed", 31 * 24 * HOUR)]
    kept = [ended(mill, "completed", 6 * 24 * HOUR, age=40 * 24 * HOUR), ended(mill, "failed", 8 * 24 * HOUR),
            mill.submit(id=made(40 * 24 * HOUR)), mill.submit()]
    assert prune(mill) == len(gone)
    assert [mill.row(id) for id in gone] == [None] * len(gone)
    assert all(mill.row(id) for id in kept)
    assert prune(mill) == 0


def test_running_tasks_and_living_workers_stay(mill: Mill) -> None:
    worker, left = mill.worker(), mill.worker()
    id = mill.submit(id=made(40 * 24 * HOUR))
    [claim] = worker.claim()
    assert left.call("leave")
    mill.db.execute("UPDATE pgmill.workers SET ended_at = ended_at - interval '8 days' WHERE ended_at IS NOT NULL")
    assert prune(mill) == 0
    assert mill.value("SELECT array_agg(id) FROM pgmill.workers") == [worker.id]
    assert worker.finish(End(claim)) == {id: "done"}


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_batches_of_any_size_forget_the_same(mill: Mill, size: int) -> None:
    ids = [ended(mill, "completed" if n % 2 else "failed", (8 + n) * 24 * HOUR) for n in range(6)]
    assert prune(mill, size=size) == 3
    assert [bool(mill.row(id)) for id in ids] == [True, False] * 3


def test_the_last_hour_stays_whatever_is_asked(mill: Mill) -> None:
    young, old = ended(mill, "completed", HOUR * 0.9), ended(mill, "completed", HOUR * 1.1)
    assert prune(mill, completed="0") == 1
    assert mill.row(young) and not mill.row(old)


def test_for_ever(mill: Mill) -> None:
    old, failed = ended(mill, "completed", 999 * 24 * HOUR), ended(mill, "failed", 999 * 24 * HOUR)
    assert prune(mill, completed=None, cancelled=None, failed=None) == 0
    assert prune(mill, completed=None) == 1
    assert mill.row(old) and not mill.row(failed)


def test_what_somebody_holds_is_left(mill: Mill) -> None:
    held, free = ended(mill, "completed", 8 * 24 * HOUR), ended(mill, "completed", 9 * 24 * HOUR)
    with mill.held(held):
        assert prune(mill) == 1
    assert mill.row(held) and not mill.row(free)


def test_figures_do_not_change(mill: Mill) -> None:
    worker = mill.worker()
    mill.submit(id=made(9 * 24 * HOUR))
    [claim] = worker.claim()
    worker.finish(End(claim))
    mill.submit()
    mill.change(claim.id, finished_at=datetime.now(UTC) - 8 * 24 * HOUR)
    figures = "SELECT submitted, completed, available FROM pgmill.queue_states()"
    before = mill.db.execute(figures).fetchall()
    assert prune(mill) == 1 and mill.db.execute(figures).fetchall() == before == [(2, 1, 1)]


def test_the_verb(mill: Mill, pgmill: str, database: str) -> None:
    for n in range(3):
        ended(mill, "completed", (n + 1) * 24 * HOUR)
    command = [pgmill, "prune", "--database", database]
    for arguments, said in (["--completed=infinity"], "0"), (["--completed", "60h"], "1"), ([], "0"):
        done = subprocess.run([*command, *arguments], text=True, capture_output=True, check=True)
        assert done.stdout == f"forgot {said} task{'' if int(said) == 1 else 's'}\n"
    refused = subprocess.run([*command, "--failed=1min"], text=True, capture_output=True)
    assert refused.returncode == 64 and "from 1h to infinity" in refused.stderr
