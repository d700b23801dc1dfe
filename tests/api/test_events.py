# SPDX-License-Identifier: MIT
"""Waiting for the end of a task, and the stream of changes."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg

from support.api import Client
from support.process import eventually

TASK = {"name": "t"}


class Stream:
    """A reader of Server-Sent Events on a socket of its own."""

    def __init__(self, port: int, query: str = "", last: str = "", buffer: int = 0) -> None:
        self.socket = socket.socket()
        if buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.settimeout(30)
        self.socket.connect(("127.0.0.1", port))
        head = f"GET /api/events{query} HTTP/1.1\r\nHost: localhost\r\n"
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


def test_a_slow_reader_loses_its_place_and_nothing_else(start_api: Callable) -> None:
    api = start_api()
    client, slow, quick = api.client(), Stream(api.port, buffer=4096), Stream(api.port)
    n = 8_000  # far more than the ring and the kernel's buffers hold
    seen = threading.Thread(target=lambda: quick.changes(n))
    seen.start()
    for _ in range(n // 1000):
        client.send("POST", "/api/tasks/bulk", {"tasks": [TASK] * 1000}, 201)
    seen.join(60)
    assert not seen.is_alive()
    kinds = [slow.event()[0]]
    while kinds[-1] != "reset":
        kinds.append(slow.event()[0])
    assert 1 < len(kinds) < n
    id = client.post(TASK).json["id"]
    assert slow.changes(1) == [(id, "AVAILABLE")]


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
