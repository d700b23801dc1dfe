# SPDX-License-Identifier: MIT
"""A worker's memory is bounded, whatever its programs, its readers and its payloads are like."""

import array
import contextlib
import fcntl
import os
import pathlib
import re
import signal
import termios
from typing import Any

import pytest

from support.process import Process, eventually
from support.proxy import SERVER, Proxy

from .conftest import Mill

CO = pathlib.Path(__file__).with_name("co.py")
MIB = 1 << 20
SOME = 12 * MIB  # what may be kept, a backlog of a megabyte included, and what the allocator and sanitizers add

# Freed memory would be kept by AddressSanitizer.
FRUGAL = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1:thread_local_quarantine_size_kb=64"}


def resident(worker: Process, what: str = "VmRSS") -> int:
    status = pathlib.Path(f"/proc/{worker.popen.pid}/status").read_text()
    return int(re.search(rf"{what}:\s*(\d+) kB", status)[1]) * 1024


def peak(worker: Process) -> int:
    return resident(worker, "VmHWM")


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


# ---- payloads that are too large to come with a claim ----


def submit_large(mill: Mill, size: int, count: int = 1, name: str = "t") -> None:
    mill.db.execute("SELECT count(pgmill.submit(%s, to_jsonb(repeat('x', %s)))) FROM generate_series(1, %s)", [name, size, count])


def all_ended(mill: Mill, within: float = 120) -> list[Any]:
    query = "SELECT count(*) FROM pgmill.task WHERE status NOT IN ('COMPLETED', 'FAILED', 'CANCELLED')"
    eventually(lambda: mill.db.execute(query).fetchone() == (0,), within)
    return [row[0] for row in mill.db.execute("SELECT coalesce(result, to_jsonb(error)) FROM pgmill.task ORDER BY id")]


@pytest.mark.long
def test_payloads_larger_than_the_budget_come_one_after_the_other(mill: Mill) -> None:
    """Beside them small ones go on; and they are never in the worker's own memory."""
    mill.handler("t", "echo start - $$ >>$J; wc -c; echo end - $$ >>$J")
    mill.handler("small", "cat")
    worker = mill.start("w", "--concurrency", "8", "--payload-memory", "1M", environment=FRUGAL)
    mill.ended(mill.submit("small"))
    before = resident(worker)
    submit_large(mill, 40_000_000, 3)
    while mill.db.execute("SELECT count(*) FROM pgmill.task WHERE name = 't' AND status <> 'COMPLETED'").fetchone() != (0,):
        mill.ended(mill.submit("small"))
    assert [result for result in all_ended(mill) if result] == [40_000_002] * 3
    assert mill.overlaps() == 0
    assert peak(worker) - before < 32 * MIB


@pytest.mark.long
def test_signs_of_life_do_not_wait_for_a_payload(mill: Mill) -> None:
    """The server takes longer to make its text than a worker waits for an answer."""
    mill.handler("t", "wc -c")
    mill.handler("long", "sleep 10")
    worker = mill.start("w", "--grace", "3s")
    long = mill.submit("long")
    submit_large(mill, 60_000_000, 2)
    assert mill.ended(long, within=120)["attempt"] == 1
    assert [result for result in all_ended(mill) if result] == [60_000_002] * 2
    assert "no answer of the server" not in worker.log


def test_payloads_within_the_budget_are_here_together(mill: Mill) -> None:
    mill.handler("t", "echo start >>$J; while [ $(grep -c start $J) -lt 3 ]; do sleep 0.05; done; wc -c")
    mill.start()
    submit_large(mill, 900_000, 3)
    assert all_ended(mill) == [900_002] * 3


def test_a_co_process_gets_a_large_payload_on_one_line(mill: Mill) -> None:
    mill.conf("t", Mode="stream", Exec=f"/usr/bin/python3 {CO}")
    mill.start("w", "--payload-memory", "1M")
    mill.db.execute("SELECT pgmill.submit('t', jsonb_build_object('length', repeat('\u20ac', 3000000))) FROM generate_series(1, 2)")
    assert all_ended(mill) == [3_000_000] * 2


def test_a_statement_reads_its_payload_where_it_is(mill: Mill) -> None:
    mill.conf("t", Mode="sql", Sql="SELECT length($1 #>> '{}')")
    mill.start("w", "--payload-memory", "1M")
    submit_large(mill, 20_000_000, 2)
    assert all_ended(mill) == [20_000_000] * 2


def test_a_task_that_waits_for_its_payload_is_cancelled_and_returned_at_once(mill: Mill) -> None:
    mill.handler("t", "echo start >>$J; sleep 1000")
    worker = mill.start("w", "--payload-memory", "1M")
    submit_large(mill, 2_000_000, 3)
    first, second, third = (row[0] for row in mill.db.execute("SELECT id FROM pgmill.task ORDER BY id"))
    eventually(mill.runs)
    for id in second, third:
        mill.until(id, "RUNNING")
    mill.db.execute("SELECT pgmill.cancel(%s)", [second])
    mill.ended(second, "CANCELLED")
    worker.signal(signal.SIGTERM)
    assert mill.until(third, "AVAILABLE")["attempt"] == 0
    worker.signal(signal.SIGTERM)
    worker.wait()
    assert len(mill.runs()) == 1


def test_a_payload_whose_session_is_lost_on_the_way_is_fetched_again(mill: Mill) -> None:
    with contextlib.closing(Proxy(mill.database)) as wire:
        mill.database = wire.url
        mill.handler("t", "wc -c")
        parts = 0

        def second_part(kind: str, body: bytes) -> bool:
            nonlocal parts
            parts += kind == "D" and len(body) > 1_000_000
            return parts == 2

        trap = wire.trap(SERVER, second_part)
        worker = mill.start()
        submit_large(mill, 3_000_000)
        trap.wait().cut()
        assert all_ended(mill) == [3_000_002]
        worker.wait_log("Cannot fetch payloads now")
