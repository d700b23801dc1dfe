# SPDX-License-Identifier: MIT
"""What a handler writes to standard error: in the journal, and kept with the task."""

import os
import pathlib
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from support.process import Process, eventually

from .conftest import Mill


class Entry(NamedTuple):
    priority: int
    message: str
    task: tuple[str, ...] | None  # id, name, queue, attempt
    id: str | None
    name: str | None


class Journal:
    """A socket where the journal's is, in a file system of the worker's own, and a standard error that is the journal's.
    It is read only on request."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        path = folder / "journald"
        self.socket.bind(str(path))
        self.before = ["unshare", "--mount", *(["--map-root-user"] if os.geteuid() else []), "/bin/sh", "-c",
                       "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal &&"
                       f" ln -s {path} /run/systemd/journal/socket &&"
                       ' JOURNAL_STREAM=$(stat -Lc %d:%i /proc/self/fd/2) exec "$@"', "sh"]

    def read(self, within: float = 20) -> Entry:
        self.socket.settimeout(within)
        data, fields = self.socket.recv(1 << 20), {}
        while data:
            name, _, data = data.partition(b"\n")
            (size,) = struct.unpack("<Q", data[:8])
            fields[name.decode()] = data[8:8 + size].decode()
            assert data[8 + size:9 + size] == b"\n"
            data = data[9 + size:]
        assert fields["SYSLOG_IDENTIFIER"] == fields.get("PGMILL_NAME", "pgmill-worker")
        task = tuple(fields[f"PGMILL_{name}"] for name in ("TASK", "NAME", "QUEUE", "ATTEMPT") if "PGMILL_TASK" in fields)
        return Entry(int(fields["PRIORITY"]), fields["MESSAGE"], task or None, fields.get("MESSAGE_ID"),
                     fields.get("PGMILL_NAME"))

    def of_task(self, last: str) -> Iterator[Entry]:
        """Lines of tasks, the last one included."""
        while (entry := self.read()).message != last:
            if entry.task:
                yield entry
        yield entry


@pytest.fixture
def journal(folder: pathlib.Path) -> Iterator[Journal]:
    journal = Journal(folder)
    yield journal
    journal.socket.close()


def log(mill: Mill, id: object) -> str | None:
    return mill.db.execute("SELECT text FROM pgmill.log(%s)", [id]).fetchone()[0]


def test_lines_are_in_the_journal_with_their_task_and_level(mill: Mill, journal: Journal) -> None:
    mill.handler("t", r"printf '<3>bad\nplain\n\n<9>nine\n<30>daemon\n<7>\n<2> blank\n<1>half' >&2; exit 1", MaxAttempts="1")
    mill.start("w", "--queues", "mail", before=journal.before)
    id = mill.submit("t", queue="mail")
    entries = list(journal.of_task("half"))
    assert [entry[:2] for entry in entries] == \
        [(6, "Attempt 1 of 1 begins"), (3, "bad"), (6, "plain"), (6, "<9>nine"), (6, "<30>daemon"), (2, " blank"), (1, "half")]
    assert {entry.task for entry in entries} == {(str(id), "t", "mail", "1")}
    assert mill.ended(id, "FAILED")["errors"][0]["stderr"] \
        == "<3>bad\nplain\n\n<9>nine\n<30>daemon\n<7>\n<2> blank\n<1>half"


def test_what_ends_a_worker_at_once_comes_by_standard_error(mill: Mill, journal: Journal) -> None:
    """Of that the journal knows whose it is, however soon the process has ended."""
    worker = mill.start("--nosuch", wait=False, before=journal.before)
    assert worker.wait() == 64 and worker.log.startswith("<3>--nosuch: ")
    with pytest.raises(TimeoutError):
        journal.read(within=0.1)


def test_lines_of_a_co_process_are_of_its_name_and_of_no_task(mill: Mill, journal: Journal) -> None:
    mill.conf("t", Mode="stream", Exec="/bin/sh -c \"echo '<4>one' >&2; seq 50 >&2; exec cat >/dev/null\"", LogRateLimitBurst="10")
    mill.start(before=journal.before)
    mill.submit("t")
    while (entry := journal.read()).message != "one":
        pass
    assert entry == (4, "one", None, None, "t")
    assert [journal.read() for _ in range(9)] == [(6, str(i), None, None, "t") for i in range(1, 10)]


def test_a_line_of_a_megabyte_comes_in_pieces_that_cut_no_character(mill: Mill, journal: Journal) -> None:
    mill.handler("t", r"""
        { printf '<4>x'; head -c 1000000 /dev/zero | sed 's/\x00/€/g' | head -c 1048575
          printf '\nsmall\na\000b\377c\303\n<5>end\n'; } >&2""")
    mill.start(before=journal.before)
    mill.submit("t")
    _, *pieces, small, broken, end = journal.of_task("end")
    assert [entry[:2] for entry in (small, broken, end)] == [(6, "small"), (6, "a\ufffdb\ufffdc\ufffd"), (5, "end")]
    assert {entry.priority for entry in pieces} == {4} and 64 <= len(pieces) <= 66
    assert all(len(entry.message.encode()) <= 16384 for entry in pieces)
    assert "".join(entry.message for entry in pieces) == "x" + "€" * (1048575 // 3)


def test_a_flood_is_limited_and_what_is_missing_is_counted(mill: Mill, journal: Journal) -> None:
    mill.handler("t", "seq 1 5000 >&2; echo done", LogRateLimitBurst="10", LogRateLimitIntervalSec="1h")
    mill.start(before=journal.before)
    id = mill.submit("t")
    _, *lines, last = journal.of_task("4990 lines of standard error suppressed")
    assert [entry.message for entry in lines] == [str(i) for i in range(1, 11)]
    assert last.priority == 4 and last.task and last.task[0] == str(id)
    mill.ended(id)
    assert log(mill, id).endswith("4999\n5000\n")


@pytest.mark.long
def test_a_journal_that_takes_nothing_holds_nobody_up(mill: Mill, journal: Journal) -> None:
    mill.handler("t", "seq 1 20000 >&2; echo done", LogRateLimitBurst="infinity")
    mill.start(before=journal.before)
    id = mill.submit("t")
    assert mill.ended(id)["result"] == "done"
    received = 0
    while not (entry := journal.read()).message.endswith(" lines dropped, which the log did not take in time"):
        received += entry.task is not None
    assert entry.priority == 4 and 0 < received < 20001
    # With its beginning; its end may come later.
    assert int(entry.message.split()[0]) + received in (20001, 20002)


def test_what_the_journal_has_not_taken_yet_comes_before_the_end(mill: Mill, journal: Journal) -> None:
    mill.handler("t", "seq 1 1000 >&2; echo done", LogRateLimitBurst="infinity")
    worker = mill.start(before=journal.before)
    mill.ended(mill.submit("t"))
    worker.signal(signal.SIGTERM)
    worker.wait_message("STOPPING=1")
    eventually(lambda: mill.db.execute("SELECT ended_at FROM pgmill.workers").fetchone()[0])
    lines = []
    while (entry := journal.read()).message != "Drained; nothing of this worker is left":
        lines.append(entry.message)
    assert [line for line in lines if line.isdigit()] == [str(i) for i in range(1, 1001)]
    assert worker.wait() == 0


def test_a_standard_error_that_nobody_reads_holds_nobody_up(mill: Mill, folder: pathlib.Path) -> None:
    mill.handler("t", "head -c 1000000 /dev/zero | tr '\\0' x | fold -w 100 >&2; echo done", LogRateLimitBurst="infinity")
    os.mkfifo(folder / "log")
    reader = os.open(folder / "log", os.O_RDONLY | os.O_NONBLOCK)
    mill.start(before=["/bin/sh", "-c", f'exec "$@" 9>&2 2>{folder}/log', "sh"])
    assert mill.ended(mill.submit("t"))["result"] == "done"
    with os.fdopen(reader, "rb", buffering=0) as file:
        data = bytearray()
        eventually(lambda: b"lines dropped" in data or data.extend(file.read(65536) or b""))
    lines = data.split(b"\n")
    assert all(line.startswith(b"pgmill-worker: ") for line in lines[:-1])


@pytest.mark.parametrize("script, status, kept", [
    ("echo one >&2; echo two >&2", "COMPLETED", "one\ntwo\n"),
    ("seq 100000 >&2", "COMPLETED", "".join(f"{i}\n" for i in range(97271, 100001))),
    ("printf half >&2; exit 1", "FAILED", "half"),
    (r"printf 'a\000\377\n' >&2", "COMPLETED", "a\ufffd\ufffd\n"),
    ("true", "COMPLETED", None),
    ("exit 1", "FAILED", None),
])
def test_the_end_of_standard_error_is_kept(mill: Mill, script: str, status: str, kept: str | None) -> None:
    mill.handler("t", script, MaxAttempts="1")
    mill.start()
    id = mill.submit("t")
    task = mill.ended(id, status)
    assert log(mill, id) == kept
    assert [error.get("stderr") for error in task["errors"]] == ([kept] if status == "FAILED" else [])


def test_the_log_is_that_of_the_last_attempt_that_wrote_any(mill: Mill) -> None:
    mill.handler("t", """
        case $PGMILL_ATTEMPT:$(wc -l <$J) in
            1:0) echo failed >&2; echo x >>$J; exit 1;;
            2:1) echo deferred >&2; echo x >>$J; exit 75;;
            2:2) echo x >>$J; exit 1;;
        esac; : >>$J; [ -e $J.go ] || exit 75; echo completed >&2""".replace("$(wc -l <$J)", "$(cat $J 2>/dev/null | wc -l)"))
    mill.start()
    id = mill.submit("t")
    eventually(lambda: len(mill.runs()) == 3)
    eventually(lambda: mill.show(id)["attempt"] == 3 or len(mill.show(id)["errors"]) == 2)
    assert log(mill, id) == "deferred\n"
    assert [error.get("stderr") for error in mill.show(id)["errors"]] == ["failed\n", None]
    pathlib.Path(f"{mill.journal}.go").touch()
    mill.ended(id)
    assert log(mill, id) == "completed\n"


def test_the_api_shows_the_log_of_a_task_that_succeeded(mill: Mill, start_api: Callable[..., Process]) -> None:
    mill.handler("t", "echo 'Größe: 3' >&2")
    mill.start()
    id = mill.submit("t")
    mill.ended(id)
    answer = start_api().client().get(f"/api/tasks/{id}/log")
    assert answer.body.decode() == "Größe: 3\n"
