# SPDX-License-Identifier: MIT
"""Requests by the byte: framing, pipelining, and what is no HTTP at all."""

import json
import socket
from collections.abc import Callable, Iterator

import psycopg
import pytest

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
}
CLOSE = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


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
    assert wire.answer()[0] in (400, 501)  # newer releases of libmicrohttpd know that they do not know a coding
    assert wire.ended()
    assert db.execute("SELECT count(*) FROM pgmill.tasks").fetchone() == (0,)


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
