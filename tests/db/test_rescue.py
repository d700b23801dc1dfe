# SPDX-License-Identifier: MIT
"""A worker's session, its death, and the rescue of its tasks."""

import uuid
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

NOW = ["-infinity"] * 4
NIL = [uuid.UUID(int=0)] * 4


def submit(db: psycopg.Connection, n: int = 1, **arguments: Any) -> list[uuid.UUID]:
    extra = "".join(f", {key} => %({key})s" for key in arguments)
    query = f"SELECT pgmill.submit('t'{extra}) FROM generate_series(1, %(n)s)"
    return [id for (id,) in db.execute(query, {"n": n} | arguments)]


def register(db: psycopg.Connection, grace: str = "30s") -> uuid.UUID:
    id = db.execute("SELECT pgmill.uuid_v7()").fetchone()[0]
    db.execute("SELECT pgmill.register(%s, 'w', 'h', 1, '0', %s, '{default}', '{t}')", [id, grace])
    return id


def claim(db: psycopg.Connection, worker: uuid.UUID, slots: int = 10, names: list[str] = ["t"],
          due: list = NOW, ids: list = NIL) -> list[tuple]:
    query = ("SELECT id, claim_no, priority, due_at FROM "
             "pgmill.claim('default', %s, %s, %s, %s, %s::timestamptz[], %s::uuid[])")
    return db.execute(query, [worker, names, [3] * len(names), slots, due, ids]).fetchall()


def finish(db: psycopg.Connection, worker: uuid.UUID, *ends: tuple) -> list[str]:
    """ends: (id, claim_no, outcome, result, error, delay)."""
    columns = [list(column) for column in zip(*ends)] or [[], [], [], [], [], []]
    query = ("SELECT verdict FROM pgmill.finish(%s, %s::uuid[], %s::bigint[], %s::text[], %s::text[], %s::text[], "
             "%s::float8[])")
    return [verdict for (verdict,) in db.execute(query, [worker, *columns])]


def show(db: psycopg.Connection, id: uuid.UUID) -> dict[str, Any]:
    cursor = db.execute("SELECT * FROM pgmill.task WHERE id = %s", [id])
    return dict(zip([column.name for column in cursor.description], cursor.fetchone()))


def test_a_new_session_takes_over_from_the_old_one(db: psycopg.Connection, connect: Callable) -> None:
    old = connect()
    worker = register(old)
    assert db.execute("SELECT pgmill.attach(%s)", [worker]).fetchone() == (True,)
    with pytest.raises(psycopg.OperationalError):
        old.execute("SELECT 1")


def session_of_a_worker(connect: Callable) -> tuple[psycopg.Connection, uuid.UUID]:
    session = connect()
    worker = register(session)
    return session, worker


def test_a_worker_is_given_up_only_when_its_lock_is_free_and_its_beat_the_same(
        db: psycopg.Connection, connect: Callable) -> None:
    session, worker = session_of_a_worker(connect)
    suspects = "SELECT worker, beat FROM pgmill.suspects()"
    give_up = "SELECT pgmill.give_up(%s, %s)"
    assert db.execute(suspects).fetchall() == []
    assert db.execute(give_up, [worker, 0]).fetchone() == (False,)
    session.close()
    while db.execute("SELECT FROM pg_locks WHERE locktype = 'advisory'").fetchone() is not None:
        pass
    assert db.execute(suspects).fetchall() == [(worker, 0)]
    assert db.execute(give_up, [worker, 1]).fetchone() == (False,)
    assert db.execute(give_up, [worker, 0]).fetchone() == (True,)
    assert db.execute("SELECT pgmill.attach(%s)", [worker]).fetchone() == (False,)
    with pytest.raises(psycopg.Error) as refused:
        finish(db, worker)
    assert refused.value.sqlstate == "PM001"


def test_rescue_blames_what_began_and_nothing_else(db: psycopg.Connection, connect: Callable) -> None:
    began, never = submit(db, 2, max_attempts=3)
    session, worker = session_of_a_worker(connect)
    claim(session, worker, 1)
    finish(session, worker)  # the heartbeat after which programs start
    claim(session, worker, 1)
    due = db.execute("SELECT due_at FROM pgmill.tasks WHERE id = %s", [never]).fetchone()
    session.close()
    while not db.execute("SELECT pgmill.give_up(%s, 1)", [worker]).fetchone()[0]:
        pass
    assert db.execute("SELECT pgmill.rescue(%s)", [worker]).fetchone() == (2,)
    assert (show(db, began)["attempt"], show(db, never)["attempt"]) == (1, 0)
    assert "was lost" in show(db, began)["error"] and show(db, never)["errors"] == []
    assert db.execute("SELECT due_at FROM pgmill.tasks WHERE id = %s", [never]).fetchone() == due
    assert db.execute("SELECT count(*) FROM pgmill.heartbeats").fetchone() == (0,)


@pytest.mark.parametrize("flag, status", [("cancel_at", "CANCELLED"), ("paused_at", "PAUSED")])
def test_rescue_forgets_no_flag(db: psycopg.Connection, connect: Callable, flag: str, status: str) -> None:
    (id,) = submit(db)
    session, worker = session_of_a_worker(connect)
    claim(session, worker)
    finish(session, worker)
    db.execute(f"UPDATE pgmill.tasks SET {flag} = clock_timestamp()")
    session.close()
    while not db.execute("SELECT pgmill.give_up(%s, 1)", [worker]).fetchone()[0]:
        pass
    db.execute("SELECT pgmill.rescue(%s)", [worker])
    assert show(db, id)["status"] == status
