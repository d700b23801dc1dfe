# SPDX-License-Identifier: MIT
"""Requests by the byte: framing, pipelining, and what is no HTTP at all."""

import contextlib
import json
import os
import pathlib
import socket
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

from support.process import eventually

POST = (b"POST /api/tasks/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 13\r\n\r\n" + b'{"name": "t"}')
CHUNKED = (b"POST /api/tasks/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
           b"Transfer-Encoding: chunked\r\n\r\n" + b'5\r\n{"nam\r\n8\r\ne": "t"}\r\n0\r\n\r\n')
AMBIGUOUS = {
    "length and chunks": CHUNKED.replace(b"Transfer", b"Content-Length: 5\r\nTransfer"),
    "two lengths": POST.replace(b"Content-Length", b"Content-Length: 5\r\nContent-Length"),
    "two hosts": POST.replace(b"Host", b"Host: example.org\r\nHost"),
    "two hosts, the right one first": POST.replace(b"Host: localhost", b"Host: localhost\r\nHost: example.org"),
    "an unknown coding": CHUNKED.replace(b"chunked", b"gzip, chunked"),
    "no coding": CHUNKED.replace(b"chunked", b"identity"),
    "a blank before the colon of the coding": CHUNKED.replace(b"Encoding:", b"Encoding :"),
    "a blank before the colon of the length": POST.replace(b"Length:", b"Length :"),
    "a header that goes on in the next line": POST.replace(b"Length: 13", b"Length:\r\n 13"),
    "a blank before the first header": POST.replace(b"Host", b" X: y\r\nHost", 1),
    "a line that ends in LF alone": POST.replace(b"localhost\r\n", b"localhost\n"),
    "a CR inside a line": POST.replace(b"localhost", b"local\rhost"),
    "a NUL inside a line": POST.replace(b"Host", b"X: a\0b\r\nHost"),
    "chunks whose lines end in LF alone": CHUNKED.replace(b"5\r\n", b"5\n"),
    "a signed length of a chunk": CHUNKED.replace(b"\r\n5\r\n", b"\r\n+5\r\n"),
    "a length of a chunk with 0x": CHUNKED.replace(b"\r\n5\r\n", b"\r\n0x5\r\n"),
    "two keys": POST.replace(b"Host", b"Idempotency-Key: a\r\nIdempotency-Key: a\r\nHost"),
    "two tokens": POST.replace(b"Host", b"Authorization: Bearer a\r\nauthorization: Bearer b\r\nHost"),
    "two types": POST.replace(b"Host", b"Content-Type: text/plain\r\nHost"),
}
CLOSE = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def processor_time(pid: int) -> float:
    """Seconds that a process has taken so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Wire:
    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.file = self.socket.makefile("rb")

    def send(self, data: bytes) -> "Wire":
        self.socket.sendall(data)
        return self

    def answer(self) -> tuple[int, bytes]:
        status = int(self.file.readline().split()[1])
        length = 0
        while (line := self.file.readline()) != b"\r\n":
            assert line
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return status, self.file.read(length)

    def ended(self) -> bool:
        return self.file.read(1) == b""


@pytest.fixture
def wire(start_api: Callable) -> Iterator[Wire]:
    wire = Wire(start_api().port)
    yield wire
    wire.file.close()
    wire.socket.close()


def test_requests_sent_at_once_are_answered_in_order(wire: Wire, db: psycopg.Connection) -> None:
    bad = POST.replace(b'{"name": "t"}', b'{"name": ""} ')
    wire.send(b"".join([POST, bad, CHUNKED] * 20) + CLOSE)
    assert [wire.answer()[0] for _ in range(61)] == [201, 422, 201] * 20 + [200]
    assert wire.ended()
    assert db.execute("SELECT count(*) FROM pgmill.tasks").fetchone() == (40,)


def test_a_target_may_be_a_whole_address(wire: Wire) -> None:
    assert wire.send(POST.replace(b" /api", b" http://localhost/api")).answer()[0] == 201


@pytest.mark.parametrize("target, host, status", [
    (b"http://localhost:8000/healthz", b"evil.example", 200),  # it alone counts: RFC 9112, section 3.2.2
    (b"HTTP://LOCALHOST/healthz", b"localhost", 200),
    (b"https://localhost/healthz", b"localhost", 200),
    (b"http://localhost", b"localhost", 200),
    (b"http://evil.example/healthz", b"localhost", 421),
    (b"http://evil.example", b"localhost", 421),
    (b"http://localhost@evil.example/healthz", b"localhost", 421),
    (b"http:///healthz", b"localhost", 421),
    (b"/healthz", b"evil.example", 421),
])
def test_a_target_may_name_its_host(wire: Wire, target: bytes, host: bytes, status: int) -> None:
    assert wire.send(b"GET " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n").answer()[0] == status


def test_a_request_may_come_byte_by_byte(wire: Wire) -> None:
    wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in POST:
        wire.send(bytes([byte]))
    status, body = wire.answer()
    assert status == 201 and json.loads(body)["name"] == "t"


def test_a_client_that_asks_first_is_told_to_go_on(wire: Wire) -> None:
    head, _, body = POST.partition(b"\r\n\r\n")
    wire.send(head + b"\r\nExpect: 100-continue\r\n\r\n")
    assert wire.answer()[0] == 100
    assert wire.send(body).answer()[0] == 201


def test_a_client_that_asks_first_need_not_send_what_is_too_large(wire: Wire) -> None:
    wire.send(POST.replace(b"Length: 13", b"Length: 99999999\r\nExpect: 100-continue").partition(b"{")[0])
    status, body = wire.answer()
    assert status == 413 and json.loads(body)["status"] == 413


def test_chunks_beyond_the_limit_are_413_and_the_connection_goes_on(wire: Wire) -> None:
    head = CHUNKED.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    wire.send(head + chunk * 16 + b"1\r\nx\r\n0\r\n\r\n")
    assert wire.answer()[0] == 413
    assert wire.send(POST).answer()[0] == 201


@pytest.mark.parametrize("request_", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_what_could_be_read_in_two_ways_is_refused(wire: Wire, db: psycopg.Connection, request_: bytes) -> None:
    """What stands behind it could be read as another request, so nothing of it is."""
    wire.send(request_ + POST)
    assert wire.answer()[0] in (400, 501)  # libmicrohttpd knows that it does not know a coding
    assert wire.ended()
    assert db.execute("SELECT count(*) FROM pgmill.tasks").fetchone() == (0,)


def test_a_header_that_is_repeated_is_named(wire: Wire) -> None:
    status, body = wire.send(AMBIGUOUS["two keys"]).answer()
    assert status == 400 and "Idempotency-Key" in json.loads(body)["detail"]


EXTENDED = {
    "one chunk extension": CHUNKED.replace(b"\r\n5\r\n", b"\r\n5;" + b"x" * 20_000 + b"\r\n"),
    "many chunk extensions": CHUNKED.replace(b"\r\n5\r\n", b"\r\n5" + b";a=b" * 20_000 + b"\r\n"),
    "a trailer": CHUNKED[:-2] + b"X: " + b"y" * 20_000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("request_", EXTENDED.values(), ids=EXTENDED)
def test_what_goes_with_chunks_is_bounded(start_api: Callable, db: psycopg.Connection, request_: bytes) -> None:
    """It is refused or cut off; the service goes on, and has nothing more to do with it."""
    api = start_api()
    wire = Wire(api.port)
    with contextlib.suppress(ConnectionError):
        assert wire.send(request_).answer()[0] in (400, 413, 431)
        assert wire.ended()
    assert db.execute("SELECT count(*) FROM pgmill.tasks").fetchone() == (0,)
    api.client().post({"name": "t"})

    def is_idle() -> bool:
        before = processor_time(api.process.popen.pid)
        time.sleep(0.5)
        return processor_time(api.process.popen.pid) - before < 0.1

    eventually(is_idle)
    wire.socket.close()


JUNK = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00",
    "no version": b"GET\r\n\r\n",
    "NUL bytes": b"\0\0\0\r\n\r\n",
    "negative length": POST.replace(b": 13", b": -1"),
    "long header": POST.replace(b"Host: localhost", b"X: " + b"y" * 100_000),
    "long path": POST.replace(b"/api/tasks/", b"/" + b"a" * 100_000),
    "NUL in the path": POST.replace(b"/api", b"/%00api"),
    "no host": POST.replace(b"Host: localhost\r\n", b""),
}


@pytest.mark.parametrize("junk", JUNK)
def test_what_is_no_request_gets_no_task(start_api: Callable, db: psycopg.Connection, junk: str) -> None:
    api = start_api()
    wire = Wire(api.port)
    try:
        wire.send(JUNK[junk])
        wire.socket.shutdown(socket.SHUT_WR)
        first = wire.file.readline()
    except OSError:
        first = b""  # cut off while it was sending
    assert first == b"" or first.split()[1] in (b"400", b"404", b"413", b"414", b"431"), first
    wire.socket.close()
    assert db.execute("SELECT count(*) FROM pgmill.tasks").fetchone() == (0,)
    api.client().post({"name": "t"})
