# SPDX-License-Identifier: MIT
"""Beside much history every call of a worker reads what it needs through indexes, however its statement is planned."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from .conftest import End, Mill, Worker

FINISHED, READY = 60_000, 2_000


@contextmanager
def no_table_scans(session: psycopg.Connection) -> Iterator[None]:
    """In one transaction: no scan of the table, and no index read from end to end either."""
    query = ("SELECT seq_scan, coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables "
             "WHERE relid = 'pgmill.tasks'::regclass")
    with session.transaction():
        scans, rows = session.execute(query).fetchone()
        yield
        scans_now, rows_now = session.execute(query).fetchone()
        assert scans_now == scans and rows_now - rows < FINISHED / 4


@pytest.fixture(params=["analyzed", "never analyzed", "analyzed while empty"])
def crowded(request: pytest.FixtureRequest, mill: Mill) -> Mill:
    mill.db.execute("ALTER TABLE pgmill.tasks SET (autovacuum_enabled = off)")
    if request.param == "analyzed while empty":
        mill.db.execute("ANALYZE pgmill.tasks")
    mill.db.execute("INSERT INTO pgmill.tasks (id, queue, name, payload, priority, due_at, state, ready, finished_at)"
                    " SELECT gen_random_uuid(), 'default', 't', '{}', 'MEDIUM', now(), 'completed', false, now()"
                    " FROM generate_series(1, %s)", [FINISHED])
    mill.submit_many(READY)
    if request.param == "analyzed":
        mill.db.execute("ANALYZE pgmill.tasks")
    return mill


@pytest.mark.parametrize("mode", ["auto", "force_generic_plan", "force_custom_plan"])
def test_calls_read_through_indexes(crowded: Mill, mode: str) -> None:
    crowded.db.execute("INSERT INTO pgmill.queues (name, max_running) VALUES ('default', 1000)")
    worker = crowded.worker()
    session = worker.session
    session.prepare_threshold = 0
    session.execute(f"SET plan_cache_mode = {mode}")
    claims = []
    for _ in range(8):  # from the sixth on a prepared plan may be generic
        with no_table_scans(session):
            claims = worker.claim(100)
        assert len(claims) == 100
        with no_table_scans(session):
            worker.session.execute("SELECT * FROM pgmill.claimed_tasks(%s, '{}')", [worker.id]).fetchall()
            worker.finish(*(End(claim, outcome) for claim, outcome in zip(claims, ["completed", "returned"] * 50)))
        with no_table_scans(session):
            worker.sleep()
            session.execute("SELECT * FROM pgmill.task WHERE id = ANY (%s)", [[c.id for c in claims]])
            session.execute("SELECT * FROM pgmill.read(%s)", [claims[0].id])
            session.execute("SELECT pgmill.pause(%s)", [claims[1].id])
            session.execute("SELECT pgmill.resume(%s)", [claims[1].id])
    worker.claim(500)
    crowded.bury(worker)
    with no_table_scans(crowded.db):
        assert crowded.rescue(worker) == 500
