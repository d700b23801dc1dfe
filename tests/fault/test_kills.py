# SPDX-License-Identifier: MIT
"""What runs is told by the handlers and the kernel, never by the queue: each run holds a lock on a file of its task, which
ends with the last of its processes, and appends a line at its start and at its end."""

import os
import pathlib
import random
import re
import signal
import statistics
import time
import uuid
from collections import Counter
from collections.abc import Callable

import psycopg
import pytest

from support.cluster import Cluster
from support.process import Process, eventually
from worker.conftest import Mill
from worker.test_takeover import ENTER, mounted, remove

HANDLER = """#!/bin/bash
exec 9>>"$PGMILL_FOLDER/$PGMILL_TASK"
flock --nonblock 9 || echo "overlap $PGMILL_TASK" >>JOURNAL
echo "start $PGMILL_TASK $EPOCHREALTIME $PGMILL_ATTEMPT" >>JOURNAL
sleep 0.$((RANDOM % 4))
echo "end $PGMILL_TASK $EPOCHREALTIME" >>JOURNAL
exit ${1:-0}
"""
WORKERS = 3
PARTS = 4  # side by side, each with hosts and a database of its own


def prepare(mill: Mill) -> None:
    runs = mill.folder / "runs"
    runs.mkdir()
    program = mill.folder / "t"
    program.write_text(HANDLER.replace("JOURNAL", str(mill.journal)).replace("$PGMILL_FOLDER", str(runs)))
    program.chmod(0o755)
    mill.conf("t", Exec=str(program), Backoff="fixed 100ms", MaxAttempts="1000")


def lines(mill: Mill) -> list[list[str]]:
    return [line.split() for line in mill.runs()]


def check(mill: Mill, ids: list[uuid.UUID]) -> None:
    """Nothing lost, nothing twice at once, no run that the attempts do not count: none is ended by its own worker, since no
    machine here stands still for two thirds of the grace period."""
    tasks = [mill.ended(id, within=120) for id in ids]
    told = Counter((what, id) for what, id, *_ in lines(mill))
    assert [key for key in told if key[0] == "overlap"] == []
    assert [id for id in map(str, ids) if told["end", id] < 1] == []
    assert {id for _, id in told} == set(map(str, ids))
    assert [task for task in tasks if told["start", str(task["id"])] > task["attempt"] or task["attempt"] > 1000] == []
    assert mill.db.execute("SELECT count(*) FROM pgmill.tasks WHERE state IN ('ready', 'running')").fetchone() == (0,)


class Host:
    """Workers in units of their own, started again when they die, as a service manager does."""

    def __init__(self, mill: Mill, pgmill: str, grace: str, urls: list[str]) -> None:
        """A worker for each of the urls."""
        self.mill, self.pgmill, self.grace, self.urls = mill, pgmill, grace, urls
        self.groups: list[pathlib.Path] = []
        point = mounted()
        if point and os.access(point, os.W_OK):
            self.groups = [point / f"pgm-{uuid.uuid4().hex[:12]}" for _ in urls]
            for group in self.groups:
                group.mkdir()
        self.workers = [self.start(i) for i in range(len(urls))]

    def start(self, i: int) -> Process:
        command = [self.pgmill, "worker", f"w{i}", "--database", self.urls[i], "--tasks", str(self.mill.tasks),
                   "--grace", self.grace]
        if self.groups:
            command = ["/bin/sh", "-c", ENTER, str(self.groups[i]), *command]
        return Process(command, self.mill.folder)

    def kill(self, i: int) -> None:
        old = self.workers[i]
        old.signal(signal.SIGKILL)
        old.popen.wait()
        self.workers[i] = self.start(i)
        old.close()

    def close(self) -> None:
        for worker in self.workers:
            worker.close()
        for group in self.groups:
            remove(group)


@pytest.fixture
def host(mill: Mill, pgmill: str, request: pytest.FixtureRequest):  # type: ignore[no-untyped-def]
    hosts: list[Host] = []

    def begin(grace: str = "12s", mill: Mill = mill, urls: list[str] | None = None) -> Host:
        prepare(mill)
        hosts.append(Host(mill, pgmill, grace, urls or [mill.database] * WORKERS))
        return hosts[-1]

    yield begin
    for each in hosts:
        each.close()


def again(told: list[list[str]], killed: list[float]) -> list[float]:
    """Seconds from each kill to the next start of what it cut off."""
    waits = []
    cut: dict[str, float] = {}
    last: dict[str, float] = {}
    for what, id, *at in told:
        if what == "start":
            if id in last:  # began before, and did not end
                cut[id] = max((kill for kill in killed if last[id] < kill < float(at[0])), default=0)
                waits += [float(at[0]) - cut[id]] if cut[id] else []
            last[id] = float(at[0])
        elif what == "end":
            last.pop(id, None)
    return waits


@pytest.mark.parametrize("part", range(PARTS))
def test_workers_killed_at_random(
        mill: Mill, host: Callable[..., Host], dice: random.Random, kills: int, part: int) -> None:
    """Red without the lock below: see test_the_locks_tell()."""
    here, ids, killed = host(), [], []
    for _ in range(kills // PARTS):
        ids += [mill.submit("t") for _ in range(6)]
        victim = dice.randrange(WORKERS)
        if dice.random() < 0.9:  # else while it starts
            here.workers[victim].ready()
        time.sleep(dice.random() / 2)  # the random point
        killed.append(time.time())
        here.kill(victim)
    check(mill, ids)
    waits = sorted(again(lines(mill), killed))
    print(f"{len(killed)} kills, {len(ids)} tasks, {len(waits)} cut off; running again after"
          f" {statistics.median(waits or [0]):.2f} s (median), {max(waits, default=0):.2f} s (most)")


def test_a_cancelled_task_does_not_outlive_its_worker(
        mill: Mill, host: Callable[..., Host], dice: random.Random, kills: int) -> None:
    """Red when pgmill.state_after() forgets cancel_at."""
    here = host()
    mill.conf("long", Exec="/bin/sleep 1000", MaxAttempts="1000")
    for worker in here.workers:
        worker.ready()
        worker.signal(signal.SIGHUP)
    for worker in here.workers:
        worker.wait_log("Read 2 handlers")
    for _ in range(max(kills // 10, 1)):
        id = mill.submit("long")
        owner = eventually(lambda: (task := mill.show(id))["status"] == "RUNNING" and task["worker"])
        name = mill.db.execute("SELECT instance FROM pgmill.workers WHERE id = %s", [owner]).fetchone()[0]
        mill.db.execute("SELECT pgmill.cancel(%s)", [id])
        here.kill(int(name[1:]))
        task = mill.ended(id, "CANCELLED", within=40)
        assert task["attempt"] <= 1  # 0: cancelled before the worker began its program
    assert not re.search("Sanitizer", "".join(worker.log for worker in here.workers))


@pytest.mark.parametrize("crash", [False, True])
def test_the_database_restarts_under_load(
        own_cluster: Cluster, run: Callable[..., Process], folder: pathlib.Path, host: Callable[..., Host],
        dice: random.Random, kills: int, crash: bool) -> None:
    url = own_cluster.fresh()
    mill = Mill.__new__(Mill)
    (folder / "db").mkdir()
    mill.__init__(run, url, psycopg.connect(url, autocommit=True), folder / "db")  # type: ignore[misc]
    host("30s", mill)
    ids = []
    for _ in range(max(kills // 20, 1)):
        ids += [mill.submit("t") for _ in range(30)]
        time.sleep(dice.random())
        mill.db.close()
        own_cluster.crash() if crash else own_cluster.stop()
        own_cluster.start()
        mill.db = psycopg.connect(url, autocommit=True)
    check(mill, ids)
    assert max(Counter(id for what, id, *_ in lines(mill) if what == "start").values()) == 1  # all outlived it
    mill.db.close()


def test_the_locks_tell(mill: Mill, host: Callable[..., Host]) -> None:
    """A mutant: tasks are given back while they run."""
    host()
    ids = [mill.submit("t") for _ in range(4)]
    while not any(what == "overlap" for what, *_ in lines(mill)):
        mill.db.execute("UPDATE pgmill.tasks SET state = 'ready', ready = true WHERE state = 'running'")
        if all(mill.show(id)["status"] == "COMPLETED" for id in ids):
            ids += [mill.submit("t") for _ in range(4)]
    with pytest.raises(AssertionError):
        check(mill, ids)
