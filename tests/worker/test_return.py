# SPDX-License-Identifier: MIT
"""What is given back is for others to be told of, and names that come and go with a reload."""

import pathlib
import signal
import uuid
from collections.abc import Callable

import psycopg
import pytest

from support.process import Process, eventually

from .conftest import Mill


def beside(mill: Mill, connect: Callable[..., psycopg.Connection]) -> tuple[Process, uuid.UUID, psycopg.Connection]:
    """A worker that runs a task, a second one that sleeps, and a session that hears what the second one is told."""
    mill.handler("t", "echo >>$J; exec sleep 1000")
    first, id = mill.start("first", "--grace", "3s"), mill.submit("t")
    eventually(mill.runs)  # RUNNING comes before
    mill.start("second", "--grace", "3s", "--queues", "default,other")
    query = "SELECT s.worker FROM pgmill.sleepers s JOIN pgmill.workers w ON w.id = s.worker WHERE instance = 'second'"
    worker = eventually(lambda: mill.db.execute(query).fetchone())[0]
    ear = connect()
    ear.execute(f'LISTEN "pgmill_{worker}"')
    return first, id, ear


def is_told(ear: psycopg.Connection, within: float = 15) -> None:
    heard: list[str] = []
    ear.add_notify_handler(lambda note: heard.append(note.payload))
    eventually(lambda: ear.execute("SELECT 1") and "" in heard, within)


def test_a_rescue_tells_those_who_sleep(mill: Mill, connect: Callable[..., psycopg.Connection]) -> None:
    first, id, ear = beside(mill, connect)
    first.kill()
    is_told(ear)
    eventually(lambda: mill.show(id)["attempt"] == 2)


def test_a_drain_tells_those_who_sleep(mill: Mill, connect: Callable[..., psycopg.Connection]) -> None:
    first, id, ear = beside(mill, connect)
    for _ in range(2):  # the second one does not wait for what runs
        first.signal(signal.SIGTERM)
        first.wait_log("Draining")
    is_told(ear)
    assert first.wait() == 0
    eventually(lambda: mill.show(id)["status"] == "RUNNING")
    assert mill.show(id)["attempt"] == 1


def test_a_reload_tells_the_names_and_takes_new_ones_at_once(mill: Mill) -> None:
    first = mill.handler("a", "true")
    worker = mill.start()
    names = lambda: mill.db.execute("SELECT names FROM pgmill.workers").fetchone()[0]  # noqa: E731
    assert names() == ["a"]
    id = mill.submit("b")
    mill.ended(mill.submit("a"))
    mill.handler("b", "true")
    worker.signal(signal.SIGHUP)
    mill.ended(id)
    assert names() == ["a", "b"]
    first.unlink()
    worker.signal(signal.SIGHUP)
    eventually(lambda: names() == ["b"])
    sleeps = "SELECT names FROM pgmill.sleepers"
    eventually(lambda: mill.db.execute(sleeps).fetchone() == (["b"],))


def test_a_drain_asks_for_time_as_long_as_it_takes(mill: Mill) -> None:
    mill.handler("t", "echo >>$J; until [ -e $J.go ]; do sleep 0.1; done")
    worker, id = mill.start("w", "--drain", "1h"), mill.submit("t")
    eventually(mill.runs)
    worker.signal(signal.SIGTERM)
    asked = "EXTEND_TIMEOUT_USEC=15000000"
    worker.wait_for(lambda: worker.messages.count(asked) >= 3, "third request for more time")
    pathlib.Path(f"{mill.journal}.go").touch()
    assert worker.wait() == 0 and mill.show(id)["status"] == "COMPLETED"
