# SPDX-License-Identifier: MIT
"""A worker's memory is bounded, whatever its programs, its readers and its payloads are like."""

import array
import fcntl
import os
import pathlib
import re
import termios

import pytest

from support.process import Process, eventually

from .conftest import Mill

CO = pathlib.Path(__file__).with_name("co.py")
MIB = 1 << 20
SOME = 12 * MIB  # what may be kept, a backlog of a megabyte included, and what the allocator and sanitizers add

# Freed memory would be kept by AddressSanitizer.
FRUGAL = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1:thread_local_quarantine_size_kb=64"}


def resident(worker: Process) -> int:
    status = pathlib.Path(f"/proc/{worker.popen.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s*(\d+) kB", status)[1]) * 1024


def waiting(pipe: int) -> int:
    """Bytes that stand in a pipe."""
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


@pytest.mark.long
def test_a_log_that_is_never_all_taken_keeps_no_more_than_its_backlog(mill: Mill) -> None:
    pipe = mill.folder / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    mill.handler("t", f"exec yes {'x' * 500} >&2", LogRateLimitBurst="infinity")
    worker = mill.start(before=["/bin/sh", "-c", f'exec "$@" 9>&2 2>{pipe}', "sh"], environment=FRUGAL)
    mill.submit("t")

    def swallow(size: int) -> int:
        """Takes so much of it, and never all that is there."""
        while size > 0:
            eventually(lambda: waiting(reader) > 40_000)
            size -= len(os.read(reader, 16384))
        return resident(worker)

    before = swallow(6 * MIB)
    assert swallow(40 * MIB) - before < SOME
    worker.kill()
    os.close(reader)


@pytest.mark.long
def test_a_co_process_that_always_has_more_to_read_keeps_none_of_it_here(mill: Mill) -> None:
    mill.conf("t", Mode="stream", Exec=f"/usr/bin/python3 {CO}")
    worker = mill.start("w", "--concurrency", "64", environment=FRUGAL)

    def swallow(count: int) -> int:
        """Does so many tasks, and more are there at every moment than fit into the pipe."""
        mill.db.execute("SELECT count(pgmill.submit('t', jsonb_build_object('ponder', 0.003, 'text', repeat('x', 20000))))"
                        f" FROM generate_series(1, {count})")
        query = "SELECT count(*) FROM pgmill.task WHERE status <> 'COMPLETED'"
        eventually(lambda: mill.db.execute(query).fetchone() == (0,), within=120)
        return resident(worker)

    before = swallow(300)
    assert swallow(2500) - before < SOME
