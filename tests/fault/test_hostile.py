# SPDX-License-Identifier: MIT
"""A program that does all at once that harms: its descendants leave it and its session, ignore SIGTERM, flood both streams,
and half a line of JSON stands before the flood. All of them share a lock, which ends with the last one."""

import fcntl

import pytest

from support.process import eventually
from worker.conftest import Mill
from worker.test_memory import FRUGAL, SOME, peak, resident

HOSTILE = """#!/usr/bin/python3
import fcntl, os, signal, sys, time

lock = open(sys.argv[1], "a")
fcntl.flock(lock, fcntl.LOCK_EX)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGPIPE, signal.SIG_IGN)
sys.stdin.readline()
os.write(1, b'{"task": "')
for stream in (1, 2):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.setsid()
            while True:
                try:
                    os.write(stream, b"x" * 65536)
                except OSError:
                    time.sleep(0.01)
        os._exit(0)
lock.write("begun")
lock.flush()
while True:
    time.sleep(60)
"""


@pytest.mark.long
@pytest.mark.parametrize("mode, how, status", [
    ("oneshot", "timeout", "FAILED"), ("oneshot", "cancel", "CANCELLED"), ("oneshot", "drain", "AVAILABLE"),
    ("stream", "a line without an end", "FAILED"),
])
def test_a_program_that_does_all_that_harms_is_bounded(held: Mill, mode: str, how: str, status: str) -> None:
    program, lock = held.folder / "hostile", held.folder / "lock"
    program.write_text(HOSTILE)
    program.chmod(0o755)
    held.conf("hostile", Exec=f"{program} {lock}", Mode=mode, MaxAttempts="1", Timeout="3s" if how == "timeout" else "1h")
    held.handler("t", "true")
    worker = held.start("w", "--concurrency", "4", "--drain", "1s", environment=FRUGAL)
    held.ended(held.submit("t"))
    before = resident(worker)
    id = held.submit("hostile")
    eventually(lambda: lock.exists() and lock.read_text() == "begun")
    for _ in range(5):
        held.ended(held.submit("t"))
    if how == "cancel":
        held.db.execute("SELECT pgmill.cancel(%s)", [id])
    most = peak(worker)
    if how == "drain":
        worker.stop()
    else:
        eventually(lambda: held.show(id)["finished_at"], within=60)
        held.ended(held.submit("t"))
        most = peak(worker)
    assert (held.show(id)["status"], held.show(id)["result"]) == (status, None)
    assert most - before < SOME
    with lock.open() as file:
        eventually(lambda: taken(file))


def taken(file) -> bool:  # type: ignore[no-untyped-def]
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
