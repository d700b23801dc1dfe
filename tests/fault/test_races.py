# SPDX-License-Identifier: MIT
"""Ends, rescues and claims of the same tasks at once, some with a snapshot from before. What the sessions were answered says
whether a task ended twice."""

import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from db.conftest import Claim, End, Worker

from .conftest import mutate

BATCH = 200
STALE = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)


class Race:
    """Two workers claim and end; a rescuer takes what both hold, whenever it can. Each answer that was committed is kept."""

    def __init__(self, connect: Callable[..., psycopg.Connection], dice: random.Random) -> None:
        self.dice = dice
        self.db = connect()
        self.workers = [Worker(connect(), ["t"], [1000], 3600) for _ in range(2)]
        self.rescuer = connect()
        self.claims: list[Claim] = []
        self.ends: Counter[tuple[uuid.UUID, int]] = Counter()
        self.completed: Counter[uuid.UUID] = Counter()
        self.stale = 0
        self.lock = threading.Lock()

    def attempt(self, session: psycopg.Connection, old: bool, act: Callable[[], None]) -> None:
        """old: with a snapshot that was taken before the others began."""
        try:
            if old:
                session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
                session.execute("SELECT count(*) FROM pgmill.heartbeats")
            self.start.wait()
            time.sleep(self.dice.random() / 20 * (self.start.parties > 1))  # the random point
            act()
            if old:
                session.execute("COMMIT")
        except STALE:
            self.stale += 1
        finally:
            session.rollback()

    def note(self, verdicts: dict[uuid.UUID, str], claims: dict[uuid.UUID, int], complete: bool) -> None:
        with self.lock:
            for id, verdict in verdicts.items():
                self.ends[id, claims[id]] += verdict == "done"
                self.completed[id] += complete and verdict == "done"

    def finish(self, worker: Worker, held: list[Claim], old: bool) -> None:
        verdicts: dict[uuid.UUID, str] = {}
        self.attempt(worker.session, old, lambda: verdicts.update(worker.finish(*map(End, held))))
        self.note(verdicts, {c.id: c.claim_no for c in held}, True)

    def rescue(self, worker: Worker, held: list[Claim], old: bool) -> None:
        verdicts: dict[uuid.UUID, str] = {}
        query = "SELECT id, verdict FROM pgmill.end_runs(%s, %s, %s, %s, %s, %s::text[], %s::float8[])"
        lists = [[c.id for c in held], [c.claim_no for c in held], ["returned"] * len(held), *[[None] * len(held)] * 3]
        self.attempt(self.rescuer, old, lambda: verdicts.update(self.rescuer.execute(query, [worker.id, *lists]).fetchall()))
        self.note(verdicts, {c.id: c.claim_no for c in held}, False)

    def claim(self, worker: Worker, old: bool) -> list[Claim]:
        got: list[Claim] = []
        self.attempt(worker.session, old, lambda: got.extend(worker.claim(BATCH)))
        self.claims += got
        return got

    def run(self, rounds: int) -> set[str]:
        """What is wrong afterwards, in words."""
        self.db.execute("INSERT INTO pgmill.tasks (id, queue, name, payload, priority, due_at)"
                        " SELECT gen_random_uuid(), 'default', 't', 'null', 'MEDIUM', clock_timestamp() FROM generate_series(1, %s)", [rounds * BATCH])
        one, other = self.workers
        for _ in range(2 * rounds + 30):  # far more than it takes
            self.start = threading.Barrier(1)
            held = self.claim(one, False)
            if not held:
                break
            self.start = threading.Barrier(3)
            old = [self.dice.random() < 0.5 for _ in range(3)]
            part = [self.dice.sample(held, len(held) - len(held) // 3) for _ in range(2)]
            with ThreadPoolExecutor() as pool:
                acts = [pool.submit(self.finish, one, part[0], old[0]), pool.submit(self.rescue, one, part[1], old[1]),
                        pool.submit(self.claim, other, old[2])]
            more = [act.result() for act in acts][2]
            self.start = threading.Barrier(1)
            self.finish(other, more, False)
            self.rescue(one, held, False)  # a dead worker's rescue goes on until none is left
        claimed = Counter((c.id, c.claim_no) for c in self.claims)
        found = {
            "claimed twice": [c for c, n in claimed.items() if n > 1],
            "ended twice": [c for c, n in self.ends.items() if n > 1],
            "completed twice": [id for id, n in self.completed.items() if n > 1],
            "lost": range(rounds * BATCH - sum(n > 0 for n in self.completed.values())),
            "never claimed": self.ends.keys() - claimed.keys(),
        }
        print({what: len(which) for what, which in found.items()}, f"{len(claimed)} claims, {self.stale} stale")
        return {what for what, which in found.items() if which}


@pytest.fixture
def race(connect: Callable[..., psycopg.Connection], dice: random.Random) -> Race:
    return Race(connect, dice)


@pytest.mark.long
def test_a_task_ends_once_whoever_comes_with_an_old_snapshot(race: Race, kills: int) -> None:
    assert race.run(kills) == set()
    assert race.stale > 0


@pytest.mark.long
@pytest.mark.parametrize("function, rule, without, wrong", [
    ("end_runs", "AND t.state = 'running'", "", "ended twice"),
    ("claim", "t.ready", "(t.ready OR t.state = 'completed')", "completed twice"),
])
def test_without_a_rule(race: Race, function: str, rule: str, without: str, wrong: str) -> None:
    """Mutants: the sessions tell of each."""
    mutate(race.db, function, rule, without)
    assert wrong in race.run(5)
