# SPDX-License-Identifier: MIT
"""Waiting for the end of a task, and the stream of changes."""

import json
import pathlib
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from support.api import Client
from support.process import eventually

TASK = {"name": "t"}


class Stream:
    """A reader of Server-Sent Events on a socket of its own."""

    def __init__(self, port: int, query: str = "", last: str = "", buffer: int = 0, **headers: str) -> None:
        self.socket = socket.socket()
        if buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.settimeout(30)
        self.socket.connect(("127.0.0.1", port))
        head = f"GET /api/events{query} HTTP/1.1\r\nHost: localhost\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.socket.sendall((head + (f"Last-Event-ID: {last}\r\n" if last else "") + "\r\n").encode())
        self.file = self.socket.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        self.headers = {}
        while (line := self.file.readline().decode().strip()):
            name, _, value = line.partition(": ")
            self.headers[name.lower()] = value
        self.lines = self._lines()

    def _lines(self) -> Iterator[str]:
        rest = b""
        while (size := int(self.file.readline() or b"0", 16)):
            *lines, rest = (rest + self.file.read(size)).split(b"\n")
            yield from (line.decode() for line in lines)
            self.file.readline()

    def frame(self) -> dict[str, str]:
        frame: dict[str, str] = {}
        for line in self.lines:
            if not line and frame:
                return frame
            name, _, value = line.partition(": ")
            frame[name] = value
        raise EOFError

    def event(self) -> tuple[str, Any, str]:
        """The next event: type, data, id. Signs of life come for ever, so they are not waited through for ever."""
        deadline = time.monotonic() + 10
        while "event" not in (frame := self.frame()):
            assert time.monotonic() < deadline, "no event comes"
        return frame["event"], json.loads(frame["data"]), frame["id"]

    def changes(self, n: int) -> list[tuple[str, str]]:
        return [(data["id"], data["status"]) for kind, data, _ in (self.event() for _ in range(n)) if kind == "task"]

    def ends(self, within: float = 10) -> bool:
        """As it should, not in the middle of an event; signs of life do not put it off."""
        deadline, last = time.monotonic() + within, ""
        for last in self.lines:
            if time.monotonic() > deadline:
                return False
        return last == ""

    def close(self) -> None:
        self.file.close()
        self.socket.close()


def run_it(db: psycopg.Connection, id: str) -> None:
    """What a worker does, without one."""
    db.execute("UPDATE pgmill.tasks SET state = 'completed', ready = false, finished_at = now() WHERE id = %s", [id])


# ---- ?wait= ----


def test_a_wait_ends_with_the_task(start_api: Callable, db: psycopg.Connection) -> None:
    api = start_api()
    id = api.client().post(TASK).json["id"]
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(api.client().get(f"/api/tasks/{id}?wait=30").json))
    waiting.start()
    eventually(lambda: db.execute("SELECT count(*) FROM pgmill.watchers").fetchone()[0] == 1)
    begun = time.monotonic()
    api.client().patch(f"/api/tasks/{id}/cancel")
    waiting.join()
    assert answers[0]["status"] == "CANCELLED" and time.monotonic() - begun < 1.9  # told, not found by looking


def test_a_wait_finds_an_end_that_nobody_told_of(api: Client, db: psycopg.Connection) -> None:
    id = api.post(TASK).json["id"]
    timer = threading.Timer(0.5, run_it, [db, id])
    timer.start()
    begun = time.monotonic()
    assert api.get(f"/api/tasks/{id}?wait=30").json["status"] == "COMPLETED"
    assert time.monotonic() - begun < 20  # it was looked for, not found when the time was over
    timer.join()


def test_a_wait_is_over_when_its_time_is(api: Client) -> None:
    id = api.post(TASK).json["id"]
    begun = time.monotonic()
    assert api.get(f"/api/tasks/{id}?wait=1").json["status"] == "AVAILABLE"
    assert 1 <= time.monotonic() - begun < 5


def test_what_cannot_be_waited_for(api: Client) -> None:
    id = api.post(TASK).json["id"]
    for wait in ("61", "-1", "x", "1.5", ""):
        assert api.get(f"/api/tasks/{id}?wait={wait}", 422).fields == ["wait"]
    api.get("/api/tasks/01900000-0000-7000-8000-000000000000?wait=10", 404)
    api.patch(f"/api/tasks/{id}/cancel")
    assert api.get(f"/api/tasks/{id}?wait=60").json["status"] == "CANCELLED"


def test_a_service_that_stops_lets_nobody_wait_in_vain(start_api: Callable, db: psycopg.Connection) -> None:
    api = start_api()
    id = api.client().post(TASK).json["id"]
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(api.client().get(f"/api/tasks/{id}?wait=60")))
    waiting.start()
    stream = Stream(api.port)
    eventually(lambda: db.execute("SELECT count(*) FROM pgmill.watchers").fetchone()[0] == 1)
    api.process.stop()
    waiting.join()
    assert answers[0].json["status"] == "AVAILABLE"
    assert list(stream.lines)[-1:] in ([], [""])  # the stream ended as it should, not in the middle
    stream.close()


# ---- events ----


def test_events_tell_what_becomes_of_tasks(start_api: Callable) -> None:
    api = start_api()
    client, stream = api.client(), Stream(api.port)
    assert stream.status == 200 and stream.headers["content-type"] == "text/event-stream"
    id = client.post(TASK | {"queue": "mail"}).json["id"]
    kind, data, _ = stream.event()
    assert kind == "task" and data.pop("at").endswith("Z")
    assert data == {"id": id, "queue": "mail", "name": "t", "status": "AVAILABLE"}
    for verb, status in {"pause": "PAUSED", "resume": "AVAILABLE", "cancel": "CANCELLED", "retry": "AVAILABLE"}.items():
        client.patch(f"/api/tasks/{id}/{verb}")
        assert stream.changes(1) == [(id, status)]
    stream.close()


def test_events_of_one_queue_or_one_task(start_api: Callable) -> None:
    api = start_api()
    client, every = api.client(), Stream(api.port)
    first = client.post(TASK).json["id"]
    assert every.changes(1) == [(first, "AVAILABLE")]  # its beginning is told, perhaps after the answer: none of the next two's
    one, mail = Stream(api.port, f"?task={first}"), Stream(api.port, "?queue=mail")
    client.patch(f"/api/tasks/{first}/pause")
    other = client.post(TASK | {"queue": "mail"}).json["id"]
    client.patch(f"/api/tasks/{first}/resume")
    assert one.changes(2) == [(first, "PAUSED"), (first, "AVAILABLE")] and mail.changes(1) == [(other, "AVAILABLE")]
    assert Stream(api.port, "?task=7").status == Stream(api.port, "?colour=red").status == 422


def test_a_reader_comes_back_to_where_it_was(start_api: Callable) -> None:
    api = start_api()
    client, stream, other = api.client(), Stream(api.port), Stream(api.port)
    ids = [client.post(TASK).json["id"] for _ in range(3)]
    _, _, last = stream.event()
    stream.close()
    assert len(other.changes(3)) == 3
    again = Stream(api.port, last=last)
    assert again.changes(2) == [(id, "AVAILABLE") for id in ids[1:]]


def test_a_reader_whose_place_is_unknown_is_told(start_api: Callable) -> None:
    api = start_api()
    for last in ("nonsense", "01900000-0000-7000-8000-000000000000-7"):
        stream = Stream(api.port, last=last)
        kind, data, id = stream.event()
        assert (kind, data) == ("reset", {})
        new = api.client().post(TASK).json["id"]
        assert stream.changes(1) == [(new, "AVAILABLE")]
        stream.close()


def test_a_lost_database_is_a_reset(start_api: Callable, db: psycopg.Connection) -> None:
    api = start_api()
    stream = Stream(api.port)
    db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgmill-api read'"
               " AND datname = current_database()")
    assert stream.event()[0] == "reset"
    eventually(lambda: api.client().send("GET", "/readyz").status == 200)
    id = api.client().post(TASK).json["id"]
    assert stream.changes(1) == [(id, "AVAILABLE")]


def test_a_bulk_resets_nobody(start_api: Callable, db: psycopg.Connection) -> None:
    """Although the line takes only a part of it at once."""
    api = start_api()
    ids = sorted(api.client().send("POST", "/api/tasks/bulk", {"tasks": [TASK] * 10_000}, 201).json["ids"])
    db.execute("UPDATE pgmill.tasks SET status_text = repeat('s', 200), queue = repeat('q', 100), name = repeat('n', 100)")
    reader, last = Stream(api.port, buffer=4096), Stream(api.port, f"?task={ids[-1]}")
    db.execute("SELECT pgmill.tell(%s::uuid[])", [ids])
    assert last.changes(1) == [(ids[-1], "AVAILABLE")]
    assert [id for id, _ in reader.changes(10_000)] == ids


def test_a_slow_reader_loses_its_place_and_nothing_else(start_api: Callable, db: psycopg.Connection) -> None:
    api = start_api()
    client, slow, quick = api.client(), Stream(api.port, buffer=4096), Stream(api.port)
    db.execute("SELECT count(pgmill.submit(%s, queue => %s)) FROM generate_series(1, 1000)", ["n" * 100, "q" * 100])
    assert len(quick.changes(1_000)) == 1_000
    n = 36_000  # far more than the ring and the kernel's buffers hold
    for _ in range(n // 1_000):
        db.execute("SELECT pgmill.tell(array_agg(id)) FROM pgmill.tasks")
        assert len(quick.changes(1_000)) == 1_000
    kinds = [slow.event()[0]]
    while kinds[-1] != "reset":
        kinds.append(slow.event()[0])
    assert 1 < len(kinds) < n
    id = client.post(TASK).json["id"]
    assert slow.changes(1) == [(id, "AVAILABLE")]


def test_what_a_browser_is_told_for_now_lets_it_come_back(start_api: Callable) -> None:
    """EventSource gives up for good at a status like 503."""
    api = start_api()
    readers = [Stream(api.port) for _ in range(256)]
    one_too_many = Stream(api.port, Accept="text/event-stream", Connection="close")
    assert (one_too_many.status, one_too_many.headers["content-type"]) == (200, "text/event-stream")
    frame = dict(line.split(": ", 1) for line in one_too_many.file.read().decode().splitlines() if line)
    assert frame["event"] == "problem" and json.loads(frame["data"])["status"] == 503 and int(frame["retry"]) >= 1000
    assert Stream(api.port, Accept="application/json").status == 503
    for reader in readers:
        reader.close()


def test_a_withdrawn_token_ends_its_streams(
        start_api: Callable, db: psycopg.Connection, pgmill: str, folder: pathlib.Path) -> None:
    file = folder / "tokens"
    tokens = [subprocess.run([pgmill, "token", "new", "--scope", "read", "--file", file, name], check=True, text=True,
                             stdout=subprocess.PIPE).stdout.strip() for name in ("kept", "lost")]
    api = start_api(environment={"PGMILL_TOKENS": str(file)})
    kept, lost = (Stream(api.port, Authorization=f"Bearer {token}") for token in tokens)
    file.write_text(file.read_text().splitlines()[0] + "\n")
    api.process.signal(signal.SIGHUP)
    assert lost.ends()
    id = str(db.execute("SELECT pgmill.submit('t')").fetchone()[0])
    assert kept.changes(1) == [(id, "AVAILABLE")]
    assert Stream(api.port, Authorization=f"Bearer {tokens[1]}").status == 401
    kept.close()


def test_readers_that_are_gone_make_room(start_api: Callable) -> None:
    """Long before the next sign of life would find out."""
    api = start_api()
    readers = [Stream(api.port) for _ in range(256)]
    assert Stream(api.port).status == 503
    for reader in readers[1:]:
        reader.file.close()
        reader.socket.close()
    eventually(lambda: Stream(api.port).status == 200, within=10)
    api.client().post(TASK)
    assert readers[0].event()[0] == "task"


def test_nobody_watches_nobody_is_told(start_api: Callable, db: psycopg.Connection) -> None:
    client = start_api().client()
    client.get(f"/api/tasks/{client.post(TASK).json['id']}?wait=1")
    assert db.execute("SELECT count(*) FROM pgmill.watchers").fetchone()[0] == 1  # somebody may come back soon
    eventually(lambda: db.execute("SELECT count(*) FROM pgmill.watchers").fetchone()[0] == 0, within=30)
