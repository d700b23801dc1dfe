# SPDX-License-Identifier: MIT
"""The tallies are exact, nobody waits for another's, and folding changes no sum."""

import random
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from .conftest import Claim, End, Mill, Worker
from .test_submit import group

QUEUES = ["default", "a", "b"]
COLUMNS = "submitted, completed, failed, cancelled, retried, rescued, refused, reopened_failed, reopened_cancelled," \
          " paused, round(wait_seconds::numeric, 6), round(run_seconds::numeric, 6), waits, runs"


def tally(mill: Mill, queue: str = "default") -> Any:
    cursor = mill.db.cursor(row_factory=psycopg.rows.namedtuple_row)
    return cursor.execute("SELECT * FROM pgmill.tally WHERE queue = %s", [queue]).fetchone()


def figures(mill: Mill) -> dict[str, tuple[int, ...]]:
    return {name: rest for name, *rest in mill.db.execute(
        "SELECT name, scheduled, retryable, available, running, paused_tasks, completed, failed, cancelled, submitted"
        " FROM pgmill.queue_states() WHERE submitted > 0")}


def counted(mill: Mill) -> dict[str, tuple[int, ...]]:
    statuses = ["SCHEDULED", "RETRYABLE", "AVAILABLE", "RUNNING", "PAUSED", "COMPLETED", "FAILED", "CANCELLED"]
    counts = ", ".join(f"count(*) FILTER (WHERE status = '{s}')" for s in statuses)
    return {name: rest for name, *rest in mill.db.execute(
        f"SELECT queue, {counts}, count(*) FROM pgmill.task GROUP BY 1")}


class Chaos:
    """Does whatever clients, operators and workers may do, in any order."""

    def __init__(self, mill: Mill, seed: int) -> None:
        self.mill, self.random = mill, random.Random(seed)
        self.ids: list[uuid.UUID] = []
        self.workers: list[Worker] = []
        self.claims: list[tuple[Worker, Claim]] = []
        self.refused = self.rescued = 0

    def submit(self) -> None:
        later = datetime.now(UTC) + timedelta(hours=1) if self.random.random() < 0.3 else None
        self.ids.append(self.mill.submit(queue=self.random.choice(QUEUES), scheduled_at=later,
                                         max_attempts=self.random.randint(1, 2)))

    def submit_group(self) -> None:
        ids = [uuid.uuid4() for _ in range(3)]
        for _ in range(self.random.randint(1, 2)):  # the second time changes nothing
            group(self.mill, ids, queue=self.random.choice(QUEUES))
        self.ids += ids

    def steer(self) -> None:
        if self.ids:
            verb = self.random.choice(["pause", "resume", "cancel", "retry"])
            self.mill.value(f"SELECT pgmill.{verb}(%s)", self.random.choice(self.ids))

    def claim(self) -> None:
        if len(self.workers) < 2:
            self.workers.append(self.mill.worker())
        worker = self.random.choice(self.workers)
        self.claims += [(worker, claim) for claim in worker.claim(3, queue=self.random.choice(QUEUES))]
        worker.finish()

    def finish(self) -> None:
        for _ in range(min(len(self.claims), 3)):
            worker, claim = self.claims.pop(self.random.randrange(len(self.claims)))
            outcome = self.random.choice(["completed", "failed", "retry", "deferred", "returned", "cancelled"])
            end = End(claim, outcome, delay=self.random.choice([None, 0, 3600]))
            assert worker.finish(end) == {claim.id: "done"}
            if self.random.random() < 0.2:
                assert worker.finish(end) == {claim.id: "refused"}
                self.refused += 1

    def obey(self) -> None:
        for worker in self.workers:
            for key, orders in worker.orders().items():
                claim = next(claim for _, claim in self.claims if claim[:2] == key)
                worker.obey(claim, self.random.choice(["frozen", "unable"]) if "pause" in orders else "thawed")

    def lose_a_worker(self) -> None:
        if self.workers and self.random.random() < 0.3:
            worker = self.workers.pop()
            self.claims = [(w, c) for w, c in self.claims if w is not worker]
            self.mill.bury(worker)
            self.rescued += self.mill.rescue(worker)

    def tidy(self) -> None:
        assert self.mill.value("SELECT pgmill.tidy()")

    def step(self) -> None:
        self.random.choice([self.submit, self.submit, self.submit_group, self.steer, self.steer, self.claim, self.finish,
                            self.obey, self.lose_a_worker, self.tidy])()


@pytest.mark.parametrize("seed", [1, 2, None])
def test_after_anything_the_figures_are_those_of_the_table(mill: Mill, seed: int | None) -> None:
    seed = seed or random.randrange(10**9)
    chaos = Chaos(mill, seed)
    for step in range(200):
        chaos.step()
        if step % 20 == 19:
            assert figures(mill) == counted(mill), f"seed {seed}, step {step}"
    total = mill.db.execute("SELECT sum(refused), sum(rescued) FROM pgmill.tally").fetchone()
    assert total == (chaos.refused, chaos.rescued)


def test_folding_keeps_every_sum(mill: Mill) -> None:
    chaos = Chaos(mill, 3)
    for _ in range(150):
        chaos.step()
    query = f"SELECT queue, {COLUMNS} FROM pgmill.tally ORDER BY queue"
    before = mill.db.execute(query).fetchall()
    mill.db.execute("UPDATE pgmill.tallies SET minute = minute - interval '2 hours' WHERE writer > 0")
    for _ in range(2):
        chaos.tidy()
        assert mill.db.execute(query).fetchall() == before
        assert mill.value("SELECT count(*) = count(DISTINCT queue) AND max(writer) = 0 FROM pgmill.tallies")


def test_what_is_written_to_is_not_folded(mill: Mill) -> None:
    group(mill, [uuid.uuid4()])
    mill.value("SELECT pgmill.tidy()")
    assert mill.value("SELECT bool_and(writer > 0) FROM pgmill.tallies")


def test_one_session_at_a_time_tidies(mill: Mill) -> None:
    other = mill.connect(autocommit=False)
    assert other.execute("SELECT pgmill.tidy()").fetchone() == (True,)
    assert mill.value("SELECT pgmill.tidy()") is False
    other.commit()
    assert mill.value("SELECT pgmill.tidy()") is True


def test_tidying_forgets_what_has_expired(mill: Mill) -> None:
    mill.db.execute("INSERT INTO pgmill.idempotency SELECT 's', n::text, 'r', '{}', now() + n * interval '1 hour'"
                    " FROM generate_series(-2, 2) n WHERE n <> 0")
    mill.db.execute("INSERT INTO pgmill.watchers VALUES (gen_random_uuid(), now() - interval '1 s'),"
                    " (gen_random_uuid(), now() + interval '1 hour')")
    mill.value("SELECT pgmill.tidy()")
    assert mill.value("SELECT count(*) FROM pgmill.idempotency") == 2
    assert mill.value("SELECT count(*) FROM pgmill.watchers") == 1


def test_open_transactions_of_clients_delay_nobody(mill: Mill) -> None:
    """Neither each other nor the API, a worker, an operator or the folding."""
    clients = [mill.connect(autocommit=False) for _ in range(2)]
    mill.db.execute("SET lock_timeout = '1s'")
    worker, id = mill.worker(), mill.submit()
    for client in clients:
        client.execute("SET LOCAL lock_timeout = '1s'")
        client.execute("SELECT pgmill.submit('t') FROM generate_series(1, 3)")
    group(mill, [uuid.uuid4()])
    mill.value("SELECT pgmill.pause(%s)", id)
    mill.value("SELECT pgmill.cancel(%s)", id)
    worker.session.execute("SET lock_timeout = '1s'")
    worker.finish(*(End(claim) for claim in worker.claim()))
    mill.value("SELECT pgmill.tidy()")
    clients[0].commit()
    clients[1].rollback()
    mill.value("SELECT pgmill.tidy()")
    assert figures(mill) == counted(mill)
    assert tally(mill).submitted == 5


def test_waits_and_runs_are_told_apart(mill: Mill) -> None:
    ids, worker = [mill.submit() for _ in range(4)], mill.worker()
    claims = {claim.id: claim for claim in worker.claim()}
    for id, wait, run in zip(ids, [0.004, 4, 4000, 0], [12, 100, 31, 7]):  # seconds to spare in each bucket
        started = datetime.now(UTC) - timedelta(seconds=run)
        mill.change(id, started_at=started, due_at=started - timedelta(seconds=wait))
    worker.finish(*(End(claims[id]) for id in ids[:3]), End(claims[ids[3]], "returned"))  # which was no run
    bounds = mill.value("SELECT pgmill.bounds()")
    row = tally(mill)
    assert [(bound, n) for bound, n in zip([*bounds, None], row.waits) if n] == [(0.005, 1), (5, 1), (None, 1)]
    assert [(bound, n) for bound, n in zip([*bounds, None], row.runs) if n] == [(30, 1), (60, 1), (300, 1)]
    assert row.wait_seconds == pytest.approx(4004.004, abs=1e-3)
    assert 143 <= row.run_seconds < 200
    metrics = {f"{m}{{{labels}}}": value for m, labels, value in mill.db.execute("SELECT * FROM pgmill.metrics('1')")}
    assert metrics['pgmill_wait_seconds_bucket{queue="default",le="0.005"}'] == "1"
    assert metrics['pgmill_wait_seconds_bucket{queue="default",le="3600"}'] == "2"
    assert metrics['pgmill_wait_seconds_bucket{queue="default",le="+Inf"}'] == "3"
    assert metrics['pgmill_wait_seconds_count{queue="default"}'] == "3"


def test_a_bound_belongs_to_its_bucket(mill: Mill) -> None:
    assert mill.value("SELECT pgmill.histogram(ARRAY[0.005, 0.0051, 3600, 3601, -1, NULL]::float8[])") \
        == [2, 1, *[0] * 13, 1, 1]
    assert mill.value("SELECT pgmill.histogram('{}')") == [0] * 17


@pytest.mark.long
def test_the_larger_side_of_many_is_found_by_subtraction(mill: Mill) -> None:
    mill.db.execute("INSERT INTO pgmill.tasks (id, queue, name, payload, priority, due_at) SELECT gen_random_uuid(), 'q',"
                    " 't', 'null', 'LOW', now() + CASE WHEN n > 7 THEN interval '1 day' ELSE interval '-5 s' END"
                    " FROM generate_series(1, 100107) n")
    query = "SELECT available, scheduled, oldest_seconds BETWEEN 5 AND 60 FROM pgmill.due('q', %s)"
    assert mill.db.execute(query, [100107]).fetchone() == (7, 100100, True)
    mill.db.execute("UPDATE pgmill.tasks SET due_at = due_at - interval '2 days' WHERE due_at > now() + interval '1 hour'")
    assert mill.db.execute(query.replace("60", "200000"), [100107]).fetchone() == (100107, 0, True)
