# SPDX-License-Identifier: MIT
"""Floods, slow clients and slow readers: others are served, and memory stays bounded."""

import contextlib
import json
import pathlib
import re
import resource
import socket
import struct
import time
import types
from collections.abc import Callable, Iterator

import psycopg
import pytest

from support.process import Process, eventually

TASK = {"name": "example_task"}
PROBE = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = (b"POST /api/tasks/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 13\r\n\r\n" + b'{"name": "t"}')
SLOW = {
    "silent": b"",
    "in the header": b"POST /api/tasks/ HTTP/1.1\r\nHost: localhost\r\nX: ",
    "in the body": POST[:-5],
}


@pytest.fixture(autouse=True)
def descriptors() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@pytest.fixture
def dial() -> Iterator[Callable[..., socket.socket]]:
    with contextlib.ExitStack() as stack:
        def dial(api: object, data: bytes = b"", receive: int = 0) -> socket.socket:
            connection = stack.enter_context(socket.socket())
            if receive:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
            connection.settimeout(20)
            connection.connect(("127.0.0.1", api.port))
            connection.sendall(data)
            return connection

        yield dial


def memory(api: object) -> int:
    """MiB that are its own and resident."""
    with open(f"/proc/{api.process.popen.pid}/statm") as f:
        _, resident, shared = map(int, f.read().split()[:3])
    return (resident - shared) * resource.getpagesize() >> 20


def connections(api: object) -> int:
    """Its open files, in fact."""
    return len(list(pathlib.Path(f"/proc/{api.process.popen.pid}/fd").iterdir()))


def status(connection: socket.socket) -> int | None:
    """Of the next answer; None: it was closed."""
    with contextlib.suppress(ConnectionError):
        head = connection.recv(4096).split(b" ", 2)
        return int(head[1]) if len(head) > 1 else None
    return None


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(4096, socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


@pytest.mark.parametrize("at", SLOW)
def test_slow_clients_on_every_connection_give_way(start_api: Callable, dial: Callable, at: str) -> None:
    """The slowest goes when a new one comes, so a fresh client is served although all connections are taken."""
    api = start_api(arguments=["--connections-max", "200"])
    slow = [dial(api, SLOW[at]) for _ in range(250)]
    assert status(dial(api, PROBE)) == 200

    def served() -> bool:
        for connection in slow:
            if is_closed(connection):  # they do not give up
                slow.remove(connection)
                slow.append(dial(api, SLOW[at]))
                break
        return status(dial(api, POST)) == 201

    eventually(served, within=10)
    for _ in range(5):
        eventually(served, within=5)


def test_when_all_connections_work_only_probes_are_answered(
        start_api: Callable, dial: Callable, connect: Callable) -> None:
    api = start_api(arguments=["--connections-max", "100"])
    lock = connect(autocommit=False)
    lock.execute("LOCK pgmill.tasks IN EXCLUSIVE MODE")
    busy = [dial(api, POST) for _ in range(95)]
    eventually(lambda: status(dial(api, POST)) == 503)
    refused = dial(api, POST)
    answer = refused.makefile("rb").read()  # to its end: it is closed
    assert answer.startswith(b"HTTP/1.1 503") and b"Retry-After: 1" in answer and b"Connection: close" in answer
    for path in (b"/healthz", b"/readyz", b"/metrics"):
        assert status(dial(api, PROBE.replace(b"/healthz", path))) == 200
    assert api.process.log.count("All but a few of 100 connections are open") == 1
    lock.rollback()
    assert [status(connection) for connection in busy] == [201] * 95
    eventually(lambda: status(dial(api, POST)) == 201)


def test_a_flood_of_connections(start_api: Callable, dial: Callable, db: psycopg.Connection) -> None:
    """More than there may be, each with a request; every 201 is a task, and nobody waits for an answer in vain."""
    api = start_api(arguments=["--connections-max", "1000"])
    before = memory(api)
    everybody = [dial(api) for _ in range(2000)]
    for connection in everybody:
        with contextlib.suppress(OSError):
            connection.sendall(POST)
    answers = [status(connection) for connection in everybody]
    assert set(answers) <= {201, 503, None}
    assert db.execute("SELECT count(*) FROM pgmill.tasks").fetchone()[0] >= answers.count(201)
    assert answers.count(201) >= 300  # the slowest give way to new ones, and how many are slow is the machine's affair
    assert memory(api) - before < 200
    for connection in everybody:
        connection.close()
    eventually(lambda: status(dial(api, POST)) == 201)


def test_files_may_be_short(pgmill: str, folder: pathlib.Path, database: str, dial: Callable) -> None:
    """A limit of open files below ConnectionsMax= is told, and kept to: nobody is lost to a failing accept()."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    command = ["/bin/bash", "-c", 'ulimit -n 300; exec "$@"', "bash", pgmill, "api", "--database", database]
    process = Process(command, folder, sockets=[listener])
    with contextlib.closing(process):
        process.ready().wait_log("ConnectionsMax=2000 is more than the limit of open files allows")
        api = types.SimpleNamespace(port=listener.getsockname()[1], process=process)
        for _ in range(400):
            dial(api)
        eventually(lambda: status(dial(api, POST)) == 201)


def test_slow_readers_of_large_answers(start_api: Callable, dial: Callable) -> None:
    """Answers on their way have 64 MiB. Then others are told to come back, until the slowest reader has gone."""
    api = start_api(arguments=["--body-max", "4M"])
    api.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)  # as on a slow line; inherited
    client = api.client()
    large = client.post(TASK | {"payload": ["x" * 1000] * 1000}).json["id"]
    ask = f"GET /api/tasks/{large} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    before = connections(api)
    slow = [dial(api, ask, receive=4096) for _ in range(100)]
    answers = [status(connection) for connection in slow]
    assert set(answers) == {200, 503} or answers == [200] * 100
    eventually(lambda: connections(api) - before - answers.count(503) <= 70)
    assert client.post(TASK).status == 201
    eventually(lambda: client.get(f"/api/tasks/{large}", expect=None).status == 200, within=10)
    assert memory(api) < 500


def test_pipelining_without_reading(start_api: Callable, dial: Callable) -> None:
    """Who sends on and on and reads nothing is not read any more, and then cut off."""
    api = start_api()
    greedy = dial(api, receive=4096)
    greedy.settimeout(2)
    sent = 0
    with contextlib.suppress(OSError):
        while sent < 200_000_000:
            sent += greedy.send(PROBE * 1000)
    assert sent < 200_000_000
    assert memory(api) < 200
    assert api.client().post(TASK).status == 201


HALF = {
    "GET": b"GET /api/stats HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "POST": POST,
    "chunked": POST.replace(b"Content-Length: 13", b"Transfer-Encoding: chunked")[:-13]
    + b'd\r\n{"name": "t"}\r\n0\r\n\r\n',
    "asking": POST.replace(b"Content-Length", b"Expect: 100-continue\r\nContent-Length"),
    "three at once": POST * 3,
    "no wait": PROBE,
}


@pytest.mark.parametrize("which", HALF)
def test_a_client_that_has_said_all_gets_its_answer(start_api: Callable, dial: Callable, which: str) -> None:
    api = start_api()
    for _ in range(20):
        connection = dial(api, HALF[which])
        connection.shutdown(socket.SHUT_WR)
        answers = re.findall(rb"HTTP/1.1 (\d+)", connection.makefile("rb").read())
        expected = {"GET": [b"200"], "no wait": [b"200"], "three at once": [b"201"] * 3}.get(which, [b"201"])
        assert [answer for answer in answers if answer != b"100"] == expected


def test_a_client_that_says_all_and_waits_long(start_api: Callable, dial: Callable, connect: Callable) -> None:
    api = start_api()
    lock = connect(autocommit=False)
    lock.execute("LOCK pgmill.tasks IN EXCLUSIVE MODE")
    waiting = [dial(api, POST) for _ in range(20)]
    for connection in waiting:
        connection.shutdown(socket.SHUT_WR)
    eventually(lambda: lock.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()[0] > 0)
    lock.rollback()
    assert [status(connection) for connection in waiting] == [201] * 20


@pytest.mark.long
@pytest.mark.parametrize("length, status_line", [(16 << 20, 201), ((16 << 20) + 1, 413)])
def test_a_route_may_have_a_limit_of_its_own(start_api: Callable, length: int, status_line: int) -> None:
    api = start_api()
    task = json.dumps({"name": "t", "payload": "x" * 900_000})
    body = '{"tasks": [' + ", ".join([task] * 18)
    body += "]" + " " * (length - len(body) - 2) + "}"
    assert len(body) == length
    answer = api.client().send("POST", "/api/tasks/bulk", body)
    assert answer.status == status_line
    if status_line == 413:
        assert str(16 << 20) in answer.json["detail"]


def test_a_refusal_need_not_wait_for_a_long_body(start_api: Callable, dial: Callable) -> None:
    api = start_api()
    head = POST.replace(b"localhost", b"evil.example").replace(b": 13", b": 99999999").partition(b"{")[0]
    assert status(dial(api, head)) == 421


def test_long_headers_are_431(start_api: Callable, dial: Callable) -> None:
    api = start_api()
    lines = b"".join(b"X-%d: %s\r\n" % (i, b"y" * 200) for i in range(200))
    assert status(dial(api, PROBE[:-2] + lines + b"\r\n")) == 431
    assert status(dial(api, PROBE)) == 200


@pytest.mark.long
def test_resets_in_a_flood_do_no_harm(start_api: Callable, dial: Callable) -> None:
    api = start_api(arguments=["--connections-max", "100"])
    for round in range(20):
        for _ in range(100):
            connection = dial(api, POST if round % 2 else POST[:30])
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
    eventually(lambda: status(dial(api, POST)) == 201)


def test_a_fresh_client_does_not_wait_for_slow_ones(start_api: Callable, dial: Callable) -> None:
    api = start_api()
    for _ in range(1000):
        dial(api, SLOW["in the header"])
    took = []
    for _ in range(200):
        started = time.monotonic()
        assert status(dial(api, POST)) == 201
        took.append(time.monotonic() - started)
    assert sorted(took)[197] < 1


# ---- slow clients that mean well, and those that do not ----


def whole(connection: socket.socket, patience: float = 60) -> bytes:
    """All that comes until it is closed."""
    connection.settimeout(patience)
    with contextlib.suppress(ConnectionError):
        return connection.makefile("rb").read()
    return b""


@pytest.mark.parametrize("begun, status", [(b"", None), (PROBE[:8], None), (PROBE[:-2], 408), (PROBE + PROBE[:-2], 408)])
def test_a_header_that_does_not_come_is_408(
        start_api: Callable, dial: Callable, begun: bytes, status: int | None) -> None:
    """A client that has sent no line yet would take that for the answer to its first request."""
    answers = re.findall(rb"HTTP/1.1 (\d+)", whole(dial(start_api(), begun)))
    assert answers[begun.count(PROBE):] == ([] if status is None else [str(status).encode()])


@pytest.mark.long
@pytest.mark.parametrize("rate", [0, 1, 2000])
def test_a_body_that_does_not_go_on_is_408(start_api: Callable, dial: Callable, rate: int) -> None:
    """It stands still, dribbles, or is slower than the least rate, after a good beginning each time."""
    api = start_api()
    body = b'{"name": "t", "payload": "' + b"x" * 200_000 + b'"}'
    connection = dial(api, POST[:-13].replace(b": 13", b": %d" % len(body)) + body[:100_000])
    connection.settimeout(0.25)
    answer, at = b"", 100_000
    with contextlib.suppress(ConnectionError):
        while b"\r\n\r\n" not in answer or not answer.endswith(b"\n"):
            connection.sendall(body[at:at + rate // 4 + (rate == 1)])
            at += rate // 4 + (rate == 1)
            with contextlib.suppress(TimeoutError):
                received = connection.recv(4096)
                assert received
                answer += received
    head, _, problem = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408") and b"application/problem+json" in head and b"no-store" in head
    assert json.loads(problem)["type"] == "/docs/problems#request-timeout" and at < len(body)
    assert api.client().post(TASK).status == 201


@pytest.mark.long
def test_a_slow_line_may_send_as_long_as_it_goes_on(start_api: Callable, dial: Callable) -> None:
    """A MiB at 40 kB a second takes 26 seconds."""
    api = start_api(arguments=["--body-max", "2M"])
    body = b'{"name": "t", "payload": "' + b"x" * (1 << 20) + b'"}'
    connection = dial(api, POST[:-13].replace(b": 13", b": %d" % len(body)))
    for at in range(0, len(body), 4000):
        connection.sendall(body[at:at + 4000])
        time.sleep(0.1)
    assert status(connection) == 201


@pytest.mark.long
@pytest.mark.parametrize("family", ["TCP", "Unix"])
def test_a_slow_line_may_read_as_long_as_it_goes_on(
        start_api: Callable, run: Callable, database: str, folder: pathlib.Path, family: str) -> None:
    """3 MiB at 80 kB a second take 40 seconds."""
    if family == "TCP":
        api = start_api(arguments=["--body-max", "4M"])
        api.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)  # as on a slow line; inherited
        address, kind = ("127.0.0.1", api.port), socket.AF_INET
    else:
        address, kind = str(folder / "api.sock"), socket.AF_UNIX
        run("api", "--database", database, "--body-max", "4M", "--listen", address).ready()
    with socket.socket(kind) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(20)
        connection.connect(address)
        body = b'{"name": "t", "payload": "' + b"x" * (3 << 20) + b'"}'
        connection.sendall(POST[:-13].replace(b": 13", b": %d\r\nConnection: close" % len(body)) + body)
        took, received = 0, bytearray()
        while data := connection.recv(8000):
            received += data
            time.sleep(len(data) / 80_000)
    assert received.startswith(b"HTTP/1.1 201") and len(received) > 3 << 20
