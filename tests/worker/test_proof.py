# SPDX-License-Identifier: MIT
"""Claims are committed without waiting for the disk, so nothing may start on one that could still be forgotten."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from support.cluster import Cluster
from support.process import Process, eventually

from .conftest import Mill

WAITING = "SELECT pid, query_start FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name ~ %s"


class Doubt:
    """A server whose durable commits wait for a standby that never comes: a window that is otherwise too short."""

    def __init__(self, cluster: Cluster, url: str) -> None:
        self.db = psycopg.connect(url, autocommit=True)
        self.db.execute("SET synchronous_commit = off")
        self.url = url

    def waiting(self, who: str) -> tuple | None:
        return self.db.execute(WAITING, [who]).fetchone()

    def _set(self, standbys: str) -> None:
        self.db.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{standbys}'")
        self.db.execute("SELECT pg_reload_conf()")

    def begin(self) -> None:
        self._set("nobody")
        probe = psycopg.connect(self.url, autocommit=True, application_name="probe")
        while not self.waiting("probe"):  # one server process tells all the others, some time soon
            probe.pgconn.send_query(b"SELECT pg_logical_emit_message(true, '', '')")
            eventually(lambda: self.waiting("probe") or self._answered(probe.pgconn))
        probe.close()

    @staticmethod
    def _answered(probe: psycopg.pq.abc.PGconn) -> bool:
        probe.consume_input()
        return not probe.is_busy() and all(iter(probe.get_result, None))

    def end(self) -> None:
        self._set("")


@pytest.fixture
def doubt(own_cluster: Cluster) -> Iterator[Doubt]:
    doubt = Doubt(own_cluster, own_cluster.fresh())
    yield doubt
    doubt.db.close()


def test_nothing_starts_before_its_claim_is_proven(
        doubt: Doubt, run: Callable[..., Process], folder: Path) -> None:
    mill = Mill(run, doubt.url, doubt.db, folder)
    mill.handler("t", "echo $$ >>$J")
    mill.start("w", "--grace", "1h")  # its next sign of life is far away
    eventually(lambda: doubt.db.execute("SELECT count(*) FROM pgmill.sleepers").fetchone() == (1,))
    doubt.begin()
    id = mill.submit("t")
    pid, since = eventually(lambda: doubt.waiting("pgmill-worker"))
    assert mill.show(id)["status"] == "RUNNING"
    assert not threading.Event().wait(0.5) and mill.runs() == []
    # Whose wait is cancelled gets an answer with a warning: committed here, and who knows where else.
    doubt.db.execute("SELECT pg_cancel_backend(%s)", [pid])
    eventually(lambda: (again := doubt.waiting("pgmill-worker")) and again[1] > since)
    assert not threading.Event().wait(0.5) and mill.runs() == []
    doubt.end()
    assert mill.ended(id)["attempt"] == 1
    assert len(mill.runs()) == 1


def test_doubt_that_repeats_waits_longer_and_longer(doubt: Doubt, run: Callable[..., Process], folder: Path) -> None:
    mill = Mill(run, doubt.url, doubt.db, folder)
    mill.handler("t", "echo $$ >>$J")
    mill.start("w", "--grace", "1h")
    eventually(lambda: doubt.db.execute("SELECT count(*) FROM pgmill.sleepers").fetchone() == (1,))
    doubt.begin()
    id, times = mill.submit("t"), []
    while len(times) < 10:
        pid, since = eventually(lambda: (w := doubt.waiting("pgmill-worker")) and w[1] not in times and w)
        times.append(since)
        doubt.db.execute("SELECT pg_cancel_backend(%s)", [pid])
    assert (times[-1] - times[0]).total_seconds() > 0.5  # 100 ms, doubled each time; two or three of them a try
    doubt.end()
    assert mill.ended(id)["attempt"] == 1
    assert len(mill.runs()) == 1
