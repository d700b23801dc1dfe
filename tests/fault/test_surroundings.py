# SPDX-License-Identifier: MIT
"""What is around pgmill fails: a full disk, a full lock table, a clock that is wrong, notifications that never come."""

import contextlib
import ctypes
import os
import pathlib
import shutil
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import psycopg
import pytest

from support.cluster import Cluster
from support.process import Process, eventually
from support.proxy import Proxy
from worker.conftest import Mill

from .test_failover import Clients

RUN = "echo start $PGMILL_TASK $$ $(date +%s.%N) >>$J; echo end $PGMILL_TASK $$ >>$J"
MS_LAZY = 2  # umount2(2)


@pytest.fixture
def small_disk(own_cluster: Cluster) -> Iterator[pathlib.Path]:
    """A file system of 48 MiB that PostgreSQL may write to."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    libc = ctypes.CDLL(None, use_errno=True)
    path = own_cluster.folder / "small"
    path.mkdir()
    if libc.mount(b"tmpfs", bytes(path), b"tmpfs", 0, b"size=48m") < 0:
        raise OSError(ctypes.get_errno(), "mount")
    shutil.chown(path, own_cluster.user)
    yield path
    libc.umount2(bytes(path), MS_LAZY)


@contextlib.contextmanager
def filled(disk: pathlib.Path) -> Iterator[None]:
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    yield
    ballast.unlink()


def test_a_full_disk_is_never_a_false_201(
        own_cluster: Cluster, small_disk: pathlib.Path, run: Callable[..., Process], folder: pathlib.Path,
        start_api: Callable) -> None:
    own_cluster.admin.execute(f"CREATE TABLESPACE small LOCATION '{small_disk}'")
    url = own_cluster.create("t1 TABLESPACE small")
    with psycopg.connect(url, autocommit=True) as db:
        (folder / "here").mkdir()
        mill = Mill(run, url, db, folder / "here")
        mill.handler("t", RUN)
        mill.start()
        clients = Clients(start_api(url).port, 4)
        clients.more()
        with filled(small_disk):
            eventually(lambda: 503 in clients.statuses, within=60)
        clients.more()
        clients.end()
        assert clients.statuses == {201, 503}
        for id in clients.stored:
            assert mill.ended(uuid.UUID(id), within=60)["attempt"] == 1
        assert mill.overlaps() == 0


def test_a_lock_table_that_others_fill_costs_nothing(mill: Mill, connect: Callable, start_api: Callable) -> None:
    mill.handler("t", RUN)
    worker = mill.start()
    clients = Clients(start_api().port, 4)
    clients.more()
    with connect() as greedy:
        with pytest.raises(psycopg.errors.OutOfMemory):
            for first in range(0, 1_000_000, 1000):
                greedy.execute("SELECT pg_advisory_lock(n) FROM generate_series(%s::int, %s) n", [first, first + 999])
        eventually(lambda: 503 in clients.statuses or "shared memory" in worker.log)
    clients.more()
    clients.end()
    assert clients.statuses <= {201, 503}
    for id in clients.stored:
        mill.ended(uuid.UUID(id), within=60)
    assert mill.overlaps() == 0


def test_without_a_notification_a_task_is_found_by_the_poll(
        database: str, run: Callable[..., Process], db: psycopg.Connection, folder: pathlib.Path,
        wires: Callable[[str], Proxy]) -> None:
    wire = wires(database)
    wire.lost = lambda kind, body: kind == "A"
    mill = Mill(run, wire.url, db, folder)
    mill.handler("t", RUN)
    mill.start()
    for _ in range(3):
        eventually(lambda: db.execute("SELECT count(*) FROM pgmill.sleepers").fetchone() == (1,))
        mill.ended(mill.submit("t"))


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A library that moves the clock of whom it is loaded into."""
    folder = tmp_path_factory.mktemp("clock")
    (folder / "clock.c").write_text(CLOCK)
    subprocess.run(["cc", "-shared", "-fPIC", "-O", "-o", folder / "clock.so", folder / "clock.c", "-ldl"], check=True)
    return folder / "clock.so"


CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long shift(void) {
    const char *s = getenv("CLOCK_SHIFT");
    return s ? atol(s) : 0;
}

int clock_gettime(clockid_t id, struct timespec *t) {
    static int (*next)(clockid_t, struct timespec *);
    if (!next)
        next = dlsym(RTLD_NEXT, "clock_gettime");
    int r = next(id, t);
    if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)
        t->tv_sec += shift();
    return r;
}

int gettimeofday(struct timeval *restrict t, void *restrict zone) {
    struct timespec now;
    int r = clock_gettime(CLOCK_REALTIME, &now);
    t->tv_sec = now.tv_sec;
    t->tv_usec = now.tv_nsec / 1000;
    return r;
}

time_t time(time_t *t) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return t ? *t = now.tv_sec : now.tv_sec;
}
"""


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_wrong_starts_nothing_early_or_late(
        mill: Mill, start_api: Callable, clock: pathlib.Path, hours: int) -> None:
    """The database's clock counts, whatever those of workers and API say."""
    wrong = {"environment": {"LD_PRELOAD": str(clock), "CLOCK_SHIFT": str(hours * 3600),
                             "ASAN_OPTIONS": "verify_asan_link_order=0"}}
    mill.handler("t", RUN)
    mill.start(**wrong)
    client = start_api(**wrong).client()
    id = client.post({"name": "t"}).json["id"]
    made = uuid.UUID(id).int >> 80
    assert abs(made / 1000 - time.time() - hours * 3600) < 600  # the clock is indeed wrong
    mill.ended(uuid.UUID(id))
    due = time.time() + 2
    later = client.post({"name": "t", "scheduled_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(due))}).json["id"]
    mill.ended(uuid.UUID(later))
    begun = next(float(line.split()[3]) for line in mill.runs() if line.startswith(f"start {later}"))
    assert int(due) <= begun
