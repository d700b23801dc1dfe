# SPDX-License-Identifier: MIT
"""A worker that died and was started again by its service manager: its tasks do not wait for a grace period."""

import os
import pathlib
import subprocess
import uuid
from collections.abc import Callable, Iterator

import psycopg
import pytest

from support.process import Process, eventually

from .conftest import Mill, alive

ENTER = 'echo $$ >"$0"/cgroup.procs; exec "$@"'


def mounted() -> pathlib.Path | None:
    return next((pathlib.Path(line.split()[1]) for line in open("/proc/mounts") if line.split()[2] == "cgroup2"), None)


def remove(group: pathlib.Path) -> None:
    (group / "cgroup.kill").write_text("1")
    eventually(lambda: "populated 0" in (group / "cgroup.events").read_text())
    for below in sorted(group.rglob("*/"), reverse=True):
        below.rmdir()
    group.rmdir()


@pytest.fixture
def unit(run: Callable[..., Process], pgmill: str, folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """A cgroup as a service manager delegates it."""
    point = mounted()
    if not point or not os.access(point, os.W_OK):
        pytest.skip("this machine lets us make no cgroup")
    group = point / f"pgm-{uuid.uuid4().hex[:12]}"
    group.mkdir()
    yield group
    remove(group)


@pytest.fixture
def start(mill: Mill, unit: pathlib.Path, pgmill: str, folder: pathlib.Path) -> Iterator[Callable[..., Process]]:
    """Starts a worker as the main process of the unit. prefix: a command that runs it."""
    processes: list[Process] = []

    def start(prefix: tuple[str, ...] = (), group: pathlib.Path = unit) -> Process:
        worker = [pgmill, "worker", "w", "--database", mill.database, "--tasks", str(mill.tasks), "--grace", "1h"]
        processes.append(Process(["/bin/sh", "-c", ENTER, str(group), *prefix, *worker], folder))
        return processes[-1].ready()

    yield start
    for process in processes:
        process.close()


def begin(mill: Mill, start: Callable[..., Process]) -> tuple[uuid.UUID, Process]:
    """A task that runs, with a child that would survive it, and its worker."""
    mill.handler("t", 'echo "start $PGMILL_TASK $$" >>$J\n'
                      '[ $PGMILL_ATTEMPT = 2 ] || { setsid sleep 1000 & echo "child - $!" >>$J; sleep 1000; }')
    worker, id = start(), mill.submit("t")
    eventually(lambda: len(mill.runs()) == 2)
    return id, worker


def test_its_tasks_run_again_at_once(mill: Mill, start: Callable[..., Process]) -> None:
    id, worker = begin(mill, start)
    worker.kill()
    start().wait_log("Took 1 tasks over")
    assert mill.ended(id)["attempt"] == 2  # its grace period is an hour
    assert not any(alive(line.split()[2]) for line in mill.runs()[:2])


def test_a_former_session_that_lives_on_is_waited_for(mill: Mill, start: Callable[..., Process]) -> None:
    """Its process is gone, but the server has yet to notice."""
    id, worker = begin(mill, start)
    key = mill.db.execute("SELECT lock_key FROM pgmill.workers").fetchone()[0]
    queued = psycopg.connect(mill.database, autocommit=True)
    queued.execute("SELECT 1")
    queued.pgconn.send_query(f"SELECT pg_advisory_lock(pgmill.lock_class('worker'), {key})".encode())
    waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory' AND pid = %s"
    eventually(lambda: mill.db.execute(waits, [queued.info.backend_pid]).fetchone() == (1,))
    worker.kill()
    heir = start()
    asks = "SELECT count(*) FROM pg_stat_activity WHERE query ~ 'take_over' AND application_name ~ 'worker'"
    eventually(lambda: mill.db.execute(asks).fetchone()[0])
    assert mill.show(id)["status"] == "RUNNING"
    queued.close()
    heir.wait_log("Took 1 tasks over")
    mill.ended(id)


@pytest.mark.parametrize("elsewhere", ["namespace", "group"])
def test_elsewhere_it_does_not_take_over(
        mill: Mill, start: Callable[..., Process], unit: pathlib.Path, elsewhere: str) -> None:
    """A clone of the machine has its id and its paths, and a process that still runs."""
    id, worker = begin(mill, start)
    worker.kill()
    other = unit / "other"
    other.mkdir()
    if elsewhere == "namespace":
        remove(other)
        heir = start(("unshare", "--cgroup"))
    else:
        heir = start(group=other)
    looked = "SELECT count(*) FROM pgmill.heartbeats WHERE NOT dead"
    assert mill.db.execute(looked).fetchone() == (2,)
    heir.stop()
    assert mill.show(id)["status"] == "RUNNING"
    assert "Took" not in heir.log


def test_beside_somebody_else_in_its_group_it_does_not_take_over(
        mill: Mill, start: Callable[..., Process], unit: pathlib.Path) -> None:
    id, worker = begin(mill, start)
    with subprocess.Popen(["sleep", "1000"]) as guest:  # as a program that left its task's group would be
        (unit / "worker/cgroup.procs").write_text(str(guest.pid))
        worker.kill()
        heir = start()
        heir.stop()
        guest.kill()
    assert mill.show(id)["status"] == "RUNNING"


@pytest.mark.long
def test_what_stood_beside_a_task_that_kills_its_workers_completes(mill: Mill, start: Callable[..., Process]) -> None:
    mill.handler("poison", "sleep 0.5; kill -9 $PPID; sleep 1000")
    mill.handler("t", "sleep 1")
    poison, *others = mill.submit("poison"), *(mill.submit("t") for _ in range(3))

    def over() -> bool:
        return mill.db.execute("SELECT bool_and(status IN ('COMPLETED', 'FAILED')) FROM pgmill.task").fetchone()[0]

    for _ in range(9):
        worker = start()
        eventually(lambda: worker.popen.poll() is not None or over(), within=60)
        if over():
            break
    assert mill.show(poison)["status"] == "FAILED" and mill.show(poison)["attempt"] == 3
    assert {mill.show(id)["status"] for id in others} == {"COMPLETED"}
