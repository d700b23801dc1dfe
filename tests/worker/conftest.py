# SPDX-License-Identifier: MIT
"""Real workers with real programs as handlers."""

import os
import pathlib
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from support.process import Process, alive, eventually


class Mill:
    """One database, a folder of handlers, and workers on them."""

    def __init__(self, run: Callable[..., Process], database: str, db: psycopg.Connection, folder: pathlib.Path):
        self.run, self.database, self.db, self.folder = run, database, db, folder
        self.tasks = folder / "tasks.d"
        self.tasks.mkdir()
        self.journal = folder / "journal"
        self.cgroup: pathlib.Path | None = None
        self.surroundings: dict[str, Any] = {}  # of its workers

    def handler(self, name: str, script: str, **keys: str) -> pathlib.Path:
        """A handler of this name that runs a shell script. $J is the journal of runs."""
        program = self.folder / name
        program.write_text(f"#!/bin/sh\nJ={self.journal}\n{script}\n")
        program.chmod(0o755)
        return self.conf(name, Exec=str(program), **({"Backoff": "fixed 100ms"} | keys))

    def conf(self, name: str, **keys: str) -> pathlib.Path:
        path = self.tasks / f"{name}.conf"
        path.write_text("[Task]\n" + "".join(f"{key}={value}\n" for key, value in keys.items()))
        return path

    def start(self, name: str = "w", *options: str, wait: bool = True, **more: Any) -> Process:
        worker = self.run("worker", name, "--database", self.database, "--tasks", str(self.tasks), *options,
                          **(self.surroundings | more))
        return worker.ready() if wait else worker

    def submit(self, name: str, payload: str = "null", **arguments: Any) -> uuid.UUID:
        extra = "".join(f", {key} => %({key})s" for key in arguments)
        query = f"SELECT pgmill.submit(%(name)s, %(payload)s{extra})"
        return self.db.execute(query, {"name": name, "payload": payload} | arguments).fetchone()[0]

    def show(self, id: uuid.UUID) -> dict[str, Any]:
        cursor = self.db.execute("SELECT * FROM pgmill.task WHERE id = %s", [id])
        return dict(zip([column.name for column in cursor.description], cursor.fetchone()))

    def until(self, id: uuid.UUID, *statuses: str, within: float = 20) -> dict[str, Any]:
        return eventually(lambda: (task := self.show(id))["status"] in statuses and task, within)

    def ended(self, id: uuid.UUID, status: str = "COMPLETED", within: float = 20) -> dict[str, Any]:
        task = self.until(id, "COMPLETED", "FAILED", "CANCELLED", within=within)
        assert task["status"] == status, task
        return task

    def result(self, name: str, script: str, payload: str = "null") -> Any:
        """What a handler's script makes of a payload."""
        self.handler(name, script)
        worker = self.start()
        result = self.ended(self.submit(name, payload))["result"]
        worker.stop()
        return result

    def runs(self) -> list[str]:
        return self.journal.read_text().splitlines() if self.journal.exists() else []

    def overlaps(self) -> int:
        """Of lines "start ID PID NS" and "end ID PID NS": runs that began while another of the same task went on.
        A run without an end was cut off; it ended when its process did, which was before what is asked here."""
        open_runs: dict[str, str] = {}
        overlaps = 0
        for line in self.runs():
            what, id, pid = line.split()[:3]
            if what == "start":
                other = open_runs.get(id)
                overlaps += bool(other and alive(other))
                open_runs[id] = pid
            elif open_runs.get(id) == pid:
                del open_runs[id]
        return overlaps


def own_cgroup() -> pathlib.Path | None:
    """The folder of this process's group of cgroup v2."""
    point = next((line.split()[1] for line in open("/proc/mounts") if line.split()[2] == "cgroup2"), None)
    own = next((line.strip()[3:] for line in open("/proc/self/cgroup") if line.startswith("0::")), None)
    return pathlib.Path(point + own) if point and own else None


@pytest.fixture
def cgroup() -> Iterator[pathlib.Path]:
    """A cgroup as a service manager would delegate it, empty."""
    parent = own_cgroup()
    if not parent or not os.access(parent, os.W_OK):
        pytest.skip("this machine lets us make no cgroup")
    path = parent / f"pgmill-test-{uuid.uuid4()}"
    path.mkdir()
    yield path
    (path / "cgroup.kill").write_text("1")
    eventually(lambda: "populated 0" in (path / "cgroup.events").read_text())
    for group in sorted(path.rglob("*/"), reverse=True):
        group.rmdir()
    path.rmdir()


@pytest.fixture(params=["tree", "cgroup"])
def held(request: pytest.FixtureRequest, mill: "Mill") -> "Mill":
    """Workers that follow their programs as process trees, and such with a cgroup of their own."""
    if request.param == "cgroup":
        mill.cgroup = request.getfixturevalue("cgroup")
        # It finds itself alone in it, as in a delegated one.
        mill.surroundings = {"before": ["/bin/sh", "-c", f'echo $$ >{mill.cgroup}/cgroup.procs; exec "$@"', "sh"]}
    return mill


@pytest.fixture
def mill(run: Callable[..., Process], database: str, db: psycopg.Connection, folder: pathlib.Path) -> Mill:
    return Mill(run, database, db, folder)
