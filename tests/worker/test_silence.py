# SPDX-License-Identifier: MIT
"""Answers that come late or never, and a database that answers but lets nobody at the tasks."""

import contextlib
import pathlib
import signal
import threading
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

from support.process import Process, alive, eventually
from support.proxy import SERVER, Proxy

from .conftest import Mill

STAY = "echo start $PGMILL_TASK $$ >>$J; while [ ! -e $J.go ]; do sleep 0.05; done; echo end $PGMILL_TASK $$ >>$J"


def began(mill: Mill, n: int = 1) -> list[str]:
    return eventually(lambda: len(lines := [line for line in mill.runs() if line.startswith("start")]) >= n and lines)


def go_on(mill: Mill) -> None:
    pathlib.Path(f"{mill.journal}.go").touch()


@pytest.mark.long
@pytest.mark.parametrize("stuck", [False, True])
def test_a_proof_that_comes_late_starts_nothing(
        stuck: bool, run: Callable[..., Process], database: str, wires: Callable[[str], Proxy], db: psycopg.Connection,
        folder: pathlib.Path) -> None:
    """The answer is held back until another worker has the tasks; or the process stands still so long."""
    wire = wires(database)
    far = Mill(run, wire.url, db, folder)
    far.handler("t", STAY)
    late = far.start("late", "--grace", "3s", "--concurrency", "16")
    trap = wire.trap(SERVER, lambda kind, body: kind == "D" and b"claimed late" in body)
    ids = [far.submit("t", '"claimed late"') for _ in range(16)]
    trap.wait()
    if stuck:
        late.signal(signal.SIGSTOP)
    wire.target = "/nowhere"
    wire.trap(SERVER, lambda kind, body: kind == "E" and b"57P01" in body)  # the connection does not end before its answer
    far.db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgmill-worker@late'")
    far.database = database
    far.start("other", "--grace", "3s", "--concurrency", "16")
    began(far, 16)
    trap.release()
    assert not stuck or trap.passed.wait(20)
    late.signal(signal.SIGCONT)
    late.wait_log("Waiting for the database")
    assert not threading.Event().wait(1) and len(began(far)) == 16
    go_on(far)
    for id in ids:
        far.ended(id)
    assert far.overlaps() == 0


@pytest.mark.long
def test_an_end_that_met_a_lock_is_written_soon_whatever_the_traffic(mill: Mill, connect: Callable) -> None:
    mill.handler("t", "true")
    mill.handler("slow", STAY)
    mill.start("w", "--concurrency", "8")
    id = mill.submit("slow")
    began(mill)
    over = threading.Event()

    def talk(db: psycopg.Connection) -> None:
        while not over.wait(0.05):
            db.execute("SELECT pgmill.submit('t')")

    traffic = threading.Thread(target=talk, args=[connect()])
    traffic.start()
    try:
        with connect().transaction() as held:
            held.connection.execute("SELECT FROM pgmill.tasks WHERE id = %s FOR UPDATE", [id])
            go_on(mill)
            eventually(lambda: any(line.startswith("end") for line in mill.runs()))
            tried = mill.db.execute("SELECT beat FROM pgmill.heartbeats").fetchone()[0]
            eventually(lambda: mill.db.execute("SELECT beat FROM pgmill.heartbeats").fetchone()[0] > tried + 5)
        mill.ended(id, within=10)
    finally:
        over.set()
        traffic.join()


def on_heartbeats(mill: Mill, body: str) -> None:
    mill.db.execute("CREATE SEQUENCE turns; GRANT ALL ON turns TO PUBLIC")
    mill.db.execute(f"CREATE FUNCTION in_turn() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NEW; END $$")
    mill.db.execute("CREATE TRIGGER t BEFORE UPDATE ON pgmill.heartbeats FOR EACH ROW EXECUTE FUNCTION in_turn()")


def test_turns_that_fail_are_tried_again_more_and_more_slowly(mill: Mill) -> None:
    mill.handler("t", "true")
    mill.start()
    on_heartbeats(mill, "IF nextval('public.turns') < 12 THEN RAISE lock_not_available; END IF;")

    def turns() -> int:
        return mill.db.execute("SELECT last_value FROM turns").fetchone()[0]

    began = time.monotonic()
    id = mill.submit("t")
    eventually(lambda: turns() >= 10)  # three a try: the claim, the end, a sign of life alone; 0.1, 0.2 and 0.4 s in between
    assert time.monotonic() - began > 0.5
    assert mill.ended(id)["attempt"] == 1


@contextlib.contextmanager
def table_locked(db: psycopg.Connection, mode: str) -> Iterator[None]:
    with db.transaction():
        db.execute(f"LOCK TABLE pgmill.tasks IN {mode} MODE")
        yield


@contextlib.contextmanager
def locks_used_up(db: psycopg.Connection, _: str) -> Iterator[None]:
    with pytest.raises(psycopg.errors.OutOfMemory):
        for first in range(0, 1_000_000, 100):
            db.execute("SELECT pg_advisory_lock(n) FROM generate_series(%s::int, %s) n", [first, first + 99])
    with pytest.raises(psycopg.errors.OutOfMemory):
        for n in range(-1, -1000, -1):
            db.execute("SELECT pg_advisory_lock(%s)", [n])
    yield
    db.execute("SELECT pg_advisory_unlock_all()")


@pytest.mark.long
@pytest.mark.parametrize("hold, mode", [(table_locked, "ACCESS EXCLUSIVE"), (table_locked, "SHARE"), (locks_used_up, "")])
def test_programs_live_while_their_tasks_cannot_be_reached(
        mill: Mill, connect: Callable, hold: Callable, mode: str) -> None:
    """For longer than the grace period, while one of them ends; and nobody takes them over."""
    mill.handler("t", STAY)
    mill.handler("short", "while [ ! -e $J.short ]; do sleep 0.05; done")
    worker = mill.start("w", "--grace", "3s")
    other = mill.start("other", "--grace", "3s", "--queues", "q")
    ids = [mill.submit("t") for _ in range(2)] + [mill.submit("short")]
    pids = [line.split()[2] for line in began(mill, 2)]
    eventually(lambda: mill.show(ids[2])["status"] == "RUNNING")
    with hold(connect(), mode):
        pathlib.Path(f"{mill.journal}.short").touch()
        assert not threading.Event().wait(5)
        assert all(map(alive, pids)), worker.log
    go_on(mill)
    for id in ids:
        assert mill.ended(id)["attempt"] == 1
    assert len(began(mill)) == 2
    assert "Gave worker" not in other.log
