# SPDX-License-Identifier: MIT
"""Faults of all kinds at once, in an order that the seed decides. What handlers append to a file and what clients were told
says what became of each task; a schema that lacks a rule shows that they would say so."""

import pathlib
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import psycopg
import pytest

from support.cluster import Cluster
from support.process import Process, eventually
from support.proxy import Proxy
from worker.conftest import Mill

from .conftest import mutate
from .test_kills import Host, host, lines  # noqa: F401

WORKERS = 8
GRACE = 12
STANDSTILL = GRACE / 2  # after that the watchdog has ended a worker
EACH = 40  # tasks a fault
TRIES = {"t": 100, "bad": 2}  # a bad one always fails
WEIGHTS = {"kill": 25, "freeze": 20, "terminate": 20, "cut": 20, "cut_api": 5, "mute": 5, "restart": 1, "crash": 1}
CALM = {"kill": 1, "terminate": 1}
ENDS = {"COMPLETED", "CANCELLED", "FAILED"}


class Given(NamedTuple):
    name: str
    due: float


class Storm:
    def __init__(self, cluster: Cluster, run: Callable[..., Process], wires: Callable[[str], Proxy], start_api: Callable,
                 host: Callable[..., Host], folder: pathlib.Path, dice: random.Random) -> None:
        self.cluster, self.dice = cluster, dice
        self.url = cluster.fresh()
        (folder / "here").mkdir()
        self.mill = Mill(run, self.url, psycopg.connect(self.url, autocommit=True), folder / "here")
        self.mill.conf("bad", Exec=f"{self.mill.folder / 't'} 1", Backoff="fixed 100ms", MaxAttempts=str(TRIES["bad"]))
        self.wires = [wires(self.url) for _ in range(WORKERS)]
        self.api_wire = wires(self.url)
        self.begin = lambda: host(f"{GRACE}s", self.mill, [wire.url for wire in self.wires])
        self.client = start_api(self.api_wire.url).client()
        self.given: dict[str, Given] = {}
        self.cancelled: set[str] = set()
        self.retried: Counter[str] = Counter()  # one more attempt each, and at once
        self.frozen: dict[int, float] = {}

    def rage(self, weights: dict[str, int], faults: int, within: float = 180) -> set[str]:
        """What is wrong afterwards, in words."""
        self.host = self.begin()
        deck = [*weights, *self.dice.choices([*weights], [*weights.values()], k=max(faults - len(weights), 0))][:max(faults, 1)]
        self.dice.shuffle(deck)
        for n, fault in enumerate(deck):
            self.submit(f"k{n}")
            self.steer()
            getattr(self, fault)(self.dice.randrange(WORKERS))
            self.thaw(0.5)
            time.sleep(self.dice.random() / 5)  # the random point
        self.thaw(1)
        self.drain(within)
        found = self.judge()
        self.mill.db.close()
        return found

    # ---- clients ----

    def ask(self, method: str, path: str, body: object = None, **headers: str):  # type: ignore[no-untyped-def]
        return self.client.send(method, path, body, **headers)

    def submit(self, key: str) -> None:
        """Until it is acknowledged. A task in ten fails always, and one in five is for later."""
        tasks, given = [], []
        for _ in range(EACH):
            name = self.dice.choices(["t", "bad"], [9, 1])[0]
            due = int(time.time()) + self.dice.randrange(1, 4) if self.dice.random() < 0.2 else 0
            later = {"scheduled_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(due))} if due else {}
            tasks.append({"name": name, "priority": self.dice.choice(["LOW", "HIGH"])} | later)
            given.append(Given(name, due))
        answer = eventually(lambda: (a := self.ask("POST", "/api/tasks/bulk", {"tasks": tasks}, Idempotency_Key=key))
                            .status in (200, 201) and a, within=60)
        self.given |= dict(zip(answer.json["ids"], given, strict=True))

    def steer(self) -> None:
        ids = [*self.given]
        for verb in ("pause", "resume", "cancel", "retry"):
            id = self.dice.choice(ids[-3 * EACH:])
            if verb == "cancel":
                self.cancelled.add(id)
            if verb == "retry":
                self.retried[id] += 1
            answer = self.ask("PATCH", f"/api/tasks/{id}/{verb}")
            assert answer.status in (200, 202, 409, 503), answer.body

    def statuses(self) -> dict[str, str]:
        return {str(id): status for id, status in self.mill.db.execute("SELECT id, status FROM pgmill.task")}

    def drain(self, within: float) -> None:
        deadline = time.monotonic() + within
        while not set((now := self.statuses()).values()) <= ENDS and time.monotonic() < deadline:
            for id in (id for id, status in now.items() if status == "PAUSED"):
                self.ask("PATCH", f"/api/tasks/{id}/resume")
            time.sleep(0.1)

    # ---- faults ----

    def kill(self, i: int) -> None:
        self.frozen.pop(i, None)
        self.host.kill(i)
        self.wires[i].cut()  # the server's keepalives tell it, where the wire is mute

    def freeze(self, i: int) -> None:
        self.host.workers[i].signal(signal.SIGSTOP)
        self.frozen.setdefault(i, time.monotonic())

    def thaw(self, chance: float) -> None:
        """Some were frozen for so long that their watchdog ends them."""
        for i, since in [*self.frozen.items()]:
            if self.dice.random() < 0.3 or time.monotonic() - since > STANDSTILL:
                self.kill(i)
            elif self.dice.random() < chance:
                del self.frozen[i]
                self.host.workers[i].signal(signal.SIGCONT)

    def terminate(self, _: int) -> None:
        self.mill.db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                             " AND application_name ~ '^pgmill' ORDER BY random() LIMIT 3")

    def cut(self, i: int) -> None:
        self.wires[i].cut()

    def cut_api(self, _: int) -> None:
        self.api_wire.cut()

    def mute(self, i: int) -> None:
        self.wires[i].mute()

    def restart(self, _: int, end: str = "stop") -> None:
        self.thaw(1)
        self.mill.db.close()
        getattr(self.cluster, end)()
        self.cluster.start()
        self.mill.db = psycopg.connect(self.url, autocommit=True)

    def crash(self, _: int) -> None:
        self.restart(_, "crash")

    # ---- what is wrong ----

    def judge(self) -> set[str]:
        statuses, runs = self.statuses(), lines(self.mill)
        starts = [(id, float(at), int(attempt)) for what, id, *rest in runs if what == "start" for at, attempt in [rest]]
        ended = {id for what, id, *_ in runs if what == "end"}
        given = self.given
        found = {
            "overlap": [id for what, id, *_ in runs if what == "overlap"],
            "lost": [id for id in given if statuses.get(id) not in ENDS],
            "not submitted": [id for _, id, *_ in runs if id not in given],
            "completed without a run": [id for id, s in statuses.items() if s == "COMPLETED" and id not in ended],
            "ended without cause": [id for id, s in statuses.items() if s == "CANCELLED" and id not in self.cancelled
                                    or (s == "FAILED") > (given[id].name == "bad") or s == "COMPLETED" and given[id].name == "bad"],
            "too often": [id for id, _, attempt in starts if id in given and attempt > TRIES[given[id].name] + self.retried[id]],
            "early": [id for id, at, _ in starts if id in given and at < given[id].due and not self.retried[id]],
        } | self.left()
        print({what: len(ids) for what, ids in found.items()}, f"{len(given)} tasks, {len(starts)} runs")
        return {what for what, ids in found.items() if ids}

    def left(self) -> dict[str, list]:
        """Once the workers have ended."""
        for worker in self.host.workers:
            worker.signal(signal.SIGTERM)
        for worker in self.host.workers:
            worker.wait()
        locks = "SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND classid = pgmill.lock_class('worker')::oid"
        there = [pid for group in self.host.groups for below in [group, *group.rglob("*/")]
                 for pid in (below / "cgroup.procs").read_text().split()]
        return {"locks left": self.mill.db.execute(locks).fetchall(), "processes left": there}


@pytest.fixture
def storm(own_cluster: Cluster, run: Callable[..., Process], wires: Callable[[str], Proxy], start_api: Callable,
          host: Callable[..., Host], folder: pathlib.Path, dice: random.Random) -> Storm:
    return Storm(own_cluster, run, wires, start_api, host, folder, dice)


@pytest.mark.long
def test_whatever_happens_at_once_each_task_ends_as_it_should(storm: Storm, kills: int) -> None:
    assert storm.rage(WEIGHTS, max(kills // 2, 1)) == set()


@pytest.mark.long
@pytest.mark.parametrize("function, rule, without, wrong", [
    ("claim", "t.ready", "(t.ready OR t.state = 'running')", "overlap"),
    ("state_after", "WHEN outcome = 'completed'", "WHEN outcome IN ('completed', 'lost')", "completed without a run"),
    ("state_after", "attempt >= max_attempts", "attempt > max_attempts", "too often"),
    ("claim", "AND t.due_at <= clock", "", "early"),
])
def test_without_a_rule(storm: Storm, function: str, rule: str, without: str, wrong: str) -> None:
    """Mutants: handlers and clients tell of each."""
    mutate(storm.mill.db, function, rule, without)
    assert wrong in storm.rage(CALM, 8, within=10)
