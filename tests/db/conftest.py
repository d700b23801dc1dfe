# SPDX-License-Identifier: MIT
"""The schema's functions, called as the worker, the API and SQL clients call them; no executable takes part."""

import contextlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import psycopg
import psycopg.rows
import pytest

START = ["-infinity"] * 4, [uuid.UUID(int=0)] * 4  # the position before every task, for each priority


class Claim(NamedTuple):
    id: uuid.UUID
    claim_no: int
    priority: str
    due_at: Any


class End(NamedTuple):
    """How a run ended, as pgmill.finish is told."""

    claim: Claim
    outcome: str = "completed"
    result: str | None = None
    error: str | None = None
    delay: float | None = None
    cpu_usec: int | None = None
    memory_peak: int | None = None


class Worker:
    """A worker as the database knows it: a registered id and the session that holds its lock."""

    def __init__(self, session: psycopg.Connection, names: Sequence[str] = ("t",), tries: Sequence[int] = (3,),
                 grace: float = 30, identity: str | None = None) -> None:
        self.session, self.names, self.tries = session, list(names), list(tries)
        self.calls: list[psycopg.Notify] = []
        session.add_notify_handler(self.calls.append)
        self.id: uuid.UUID = session.execute("SELECT pgmill.uuid_v7()").fetchone()[0]
        session.execute("SELECT pgmill.register(%s, 'w', 'host', 1, '0', make_interval(secs => %s), '{default}', %s, %s)",
                        [self.id, grace, self.names, identity])

    def claim(self, slots: int = 10, queue: str = "default", after: Sequence[Any] = START,
              room: Sequence[int] | None = None) -> list[Claim]:
        query = "SELECT id, claim_no, priority, due_at FROM pgmill.claim(%s, %s, %s, %s, %s, %s, %s, %s)"
        parameters = [queue, self.id, self.names, self.tries, list(room or [slots] * len(self.names)), slots, *after]
        return [Claim(*row) for row in self.session.execute(query, parameters)]

    def finish(self, *ends: End) -> dict[uuid.UUID, str]:
        lists = [[e.claim.id for e in ends], [e.claim.claim_no for e in ends], [e.outcome for e in ends],
                 [e.result for e in ends], [e.error for e in ends], [e.delay for e in ends],
                 [e.cpu_usec for e in ends], [e.memory_peak for e in ends]]
        query = "SELECT id, verdict FROM pgmill.finish(%s, %s::uuid[], %s::bigint[], %s::text[], %s::text[]," \
                " %s::text[], %s::float8[], %s::bigint[], %s::bigint[])"
        return dict(self.session.execute(query, [self.id, *lists]).fetchall())

    def orders(self) -> dict[tuple[uuid.UUID, int], set[str]]:
        """Of its tasks that somebody wants something of: what, and whether it is written that they are frozen."""
        rows = self.session.execute("SELECT id, claim_no, cancel, pause, frozen FROM pgmill.orders(%s)", [self.id])
        return {row[:2]: {word for word, said in zip(("cancel", "pause", "frozen"), row[2:]) if said} for row in rows}

    def obey(self, claim: Claim, state: str) -> None:
        self.session.execute("SELECT pgmill.obey(%s, %s, %s, %s)", [self.id, [claim.id], [claim.claim_no], [state]])

    def call(self, function: str) -> Any:
        """pgmill.attach, leave, listen, awake …: those that take nothing but the worker."""
        former = " FROM pgmill.end_former(%s)" if function == "attach" else ""
        return self.session.execute(f"SELECT pgmill.{function}(%s){former}", [self.id] * (1 + bool(former))).fetchone()[0]

    def sleep(self, *queues: str) -> float | None:
        return self.session.execute("SELECT pgmill.sleep(%s, %s, %s)",
                                    [self.id, list(queues or ["default"]), self.names]).fetchone()[0]

    def called(self) -> int:
        """How often somebody has told it of a task so far."""
        for _ in range(2):  # what came with the last answer is looked at with the next one
            self.session.execute("SELECT 1")
        return len(self.calls)

    def die(self) -> None:
        """Its session ends, and with it the lock."""
        self.session.close()


class Mill:
    """A database with the schema, seen by somebody who is no worker."""

    def __init__(self, connect: Callable[..., psycopg.Connection]) -> None:
        self.connect = connect
        self.db = connect()

    def value(self, query: str, *parameters: Any) -> Any:
        row = self.db.execute(query, parameters or None).fetchone()
        return row and row[0]

    def worker(self, names: Sequence[str] = ("t",), tries: Sequence[int] = (3,), grace: float = 30,
               identity: str | None = None) -> Worker:
        return Worker(self.connect(), names, tries, grace, identity)

    def submit(self, name: str = "t", **arguments: Any) -> uuid.UUID:
        extra = "".join(f", {key} => %({key})s" for key in arguments)
        row = self.db.execute(f"SELECT pgmill.submit(%(name)s{extra})", {"name": name} | arguments).fetchone()
        return row[0]

    def submit_many(self, count: int, name: str = "t", queue: str = "default") -> None:
        self.db.execute("INSERT INTO pgmill.tasks (id, queue, name, payload, priority, due_at)"
                        " SELECT gen_random_uuid(), %s, %s, 'null', 'MEDIUM', clock_timestamp()"
                        " FROM generate_series(1, %s)", [queue, name, count])

    def _one(self, relation: str, column: str, value: uuid.UUID) -> Any:
        cursor = self.db.cursor(row_factory=psycopg.rows.namedtuple_row)
        return cursor.execute(f"SELECT * FROM pgmill.{relation} WHERE {column} = %s", [value]).fetchone()

    def row(self, id: uuid.UUID) -> Any:
        return self._one("tasks", "id", id)

    def task(self, id: uuid.UUID) -> Any:
        return self._one("task", "id", id)

    def heartbeat(self, worker: Worker) -> Any:
        return self._one("heartbeats", "worker", worker.id)

    def change(self, id: uuid.UUID, **columns: Any) -> None:
        """Puts a task into a condition that this version has no function for."""
        sets = ", ".join(f"{column} = %({column})s" for column in columns)
        self.db.execute(f"UPDATE pgmill.tasks SET {sets} WHERE id = %(task_id)s", {"task_id": id} | columns)

    @contextlib.contextmanager
    def held(self, *ids: uuid.UUID) -> Iterator[psycopg.Connection]:
        """A client's open transaction that changed these tasks, and takes it back in the end."""
        client = self.connect(autocommit=False)
        client.execute("UPDATE pgmill.tasks SET tags = '{held}' WHERE id = ANY (%s)", [list(ids)])
        yield client
        client.rollback()

    def give_up(self, worker: Worker) -> bool:
        return self.value("SELECT pgmill.give_up(%s, %s)", worker.id, self.heartbeat(worker).beat)

    def rescue(self, worker: Worker) -> int:
        return self.value("SELECT pgmill.rescue(%s)", worker.id)

    def suspects(self) -> dict[uuid.UUID, Any]:
        cursor = self.db.cursor(row_factory=psycopg.rows.namedtuple_row)
        return {row.worker: row for row in cursor.execute("SELECT * FROM pgmill.suspects()").fetchall()}

    def bury(self, worker: Worker) -> None:
        """Its session ends, and somebody who waited for its grace period writes the tombstone."""
        worker.die()
        self.until_free(worker)
        assert self.give_up(worker)

    def until_free(self, worker: Worker) -> None:
        """The server ends a session a moment after its client has left."""
        self.db.execute("SELECT pg_advisory_lock(c, k), pg_advisory_unlock(c, k) FROM"
                        " (SELECT pgmill.lock_class('worker') AS c, lock_key AS k FROM pgmill.workers WHERE id = %s) l",
                        [worker.id])


@pytest.fixture
def mill(connect: Callable[..., psycopg.Connection]) -> Mill:
    return Mill(connect)
