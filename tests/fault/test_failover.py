# SPDX-License-Identifier: MIT
"""The primary crashes under load and its synchronous standby takes its place, at the same address."""

import pathlib
import random
import threading
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from support.api import Client
from support.cluster import Cluster
from support.process import Process, eventually
from support.proxy import Proxy
from support.standby import Standby
from worker.conftest import Mill

from .test_kills import Host, check, host  # noqa: F401


@pytest.fixture
def standby(own_cluster: Cluster) -> Iterator[Standby]:
    standby = Standby(own_cluster)
    yield standby
    standby.remove()


class Clients:
    """They submit all the time and keep what they were told is stored."""

    def __init__(self, port: int, count: int) -> None:
        self.port = port
        self.stored: list[str] = []
        self.statuses: set[int] = set()
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self._talk) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def _talk(self) -> None:
        client = Client(self.port, timeout=120)
        while not self.over.is_set():
            answer = client.post({"name": "t"}, expect=None)
            self.statuses.add(answer.status)
            if answer.status == 201:
                self.stored.append(answer.json["id"])
            time.sleep(0.05)

    def more(self) -> None:
        so_far = len(self.stored)
        eventually(lambda: len(self.stored) > so_far + 20, within=60)

    def end(self) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()


@pytest.mark.long
@pytest.mark.parametrize("synchronous", [True, False])
def test_a_failover_loses_nothing_and_runs_nothing_twice_at_once(
        synchronous: bool, own_cluster: Cluster, standby: Standby, wires: Callable[[str], Proxy], run: Callable[..., Process],
        folder: pathlib.Path, start_api: Callable, dice: random.Random, host: Callable[..., Host]) -> None:
    """A mutant: the standby is not waited for, and lags behind."""
    url = own_cluster.fresh()
    there = standby.url(conninfo_to_dict(url)["dbname"])
    wire = wires(url)
    (folder / "here").mkdir()
    mill = Mill(run, wire.url, psycopg.connect(url, autocommit=True), folder / "here")
    clients = Clients(start_api(wire.url).port, 4)
    host("30s", mill)
    for _ in range(3):  # in the first seconds the standby keeps up with everything
        clients.more()
    if not synchronous:
        standby.lag(own_cluster)
        clients.more()
    time.sleep(dice.random())  # the random point
    mill.db.close()
    own_cluster.crash()
    standby.promote()
    wire.lead_to(there)
    clients.more()
    clients.end()
    with psycopg.connect(there, autocommit=True) as mill.db:
        ids = [id for (id,) in mill.db.execute("SELECT id FROM pgmill.tasks")]
        assert clients.statuses <= {201, 503}
        assert (set(clients.stored) <= set(map(str, ids))) == synchronous
        if synchronous:
            check(mill, ids)
