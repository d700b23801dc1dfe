# SPDX-License-Identifier: MIT
"""The API as a service: sockets, readiness, the database away, slow clients, stopping."""

import contextlib
import http.client
import os
import pathlib
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable

import psycopg
import pytest

from support.api import Answer, Client
from support.cluster import Cluster
from support.process import Process, eventually

TASK = {"name": "example_task"}


def test_it_serves_every_socket_it_is_given(run: Callable[..., Process], database: str, folder) -> None:
    tcp = socket.create_server(("127.0.0.1", 0))
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(folder / "api.sock"))
    unix.listen()
    run("api", "--database", database, sockets=[tcp, unix]).ready()
    client = socket.socket(socket.AF_UNIX)
    for connection in (socket.create_connection(tcp.getsockname()), client):
        if connection is client:
            client.connect(str(folder / "api.sock"))
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")


def test_it_tells_its_manager_how_it_is(start_api: Callable) -> None:
    process = start_api(watchdog=0.4).process
    process.wait_message("STATUS=")
    process.wait_message("WATCHDOG=1")
    assert process.stop() == 0
    process.wait_message("STOPPING=1")


def test_a_listener_beyond_loopback_is_refused(run: Callable[..., Process], database: str) -> None:
    process = run("api", "--database", database, "--listen", "0.0.0.0:0")
    assert process.wait() == 78
    assert "other machines could reach it" in process.log


@pytest.mark.parametrize("argument, complaint", [
    ("--listen=", "Listen= names no address"),
    ("--listen=localhost:8000", 'Cannot read the address "localhost:8000"'),
    ("--allowed-hosts=queue.example,http://queue.example", 'AllowedHosts= names "http://queue.example"'),
    ("--allowed-hosts=*.example", 'AllowedHosts= names "*.example"'),
])
def test_addresses_and_hosts_that_are_none_are_refused(
        run: Callable[..., Process], database: str, argument: str, complaint: str) -> None:
    process = run("api", "--database", database, argument)
    assert process.wait() == 78
    assert complaint in process.log


@pytest.mark.parametrize("arguments, status", [
    (["--body-max", "huge"], 64),
    (["--tokens", "/nonexistent"], 78),
])
def test_who_waits_for_an_api_that_cannot_start_is_let_go(
        run: Callable[..., Process], database: str, arguments: list[str], status: int) -> None:
    """Else systemd would start it again at once, because of that connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
        process = run("api", "--database", database, *arguments, sockets=[listener])
        assert process.wait() == status
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_it_waits_for_the_database_and_says_so(own_cluster: Cluster, start_api: Callable) -> None:
    url = own_cluster.fresh()
    own_cluster.stop()
    api = start_api(url, wait=False)
    api.process.wait_message("STATUS=waiting")
    answer = api.client().post(TASK, expect=503)
    assert answer.headers["Retry-After"] and answer.headers["Content-Type"] == "application/problem+json"
    api.client().get("/healthz", expect=200)
    api.client().get("/readyz", expect=503)
    assert not any("READY" in message for message in api.process.messages)
    own_cluster.start()
    api.process.wait_message("READY=1")
    api.client().post(TASK)


def refusal(port: int) -> Answer | None:
    """What is under way just when the server ends waits for its return, because nobody knows what became of it."""
    with contextlib.suppress(TimeoutError):
        answer = Client(port, timeout=1).post(TASK, expect=None)
        return answer if answer.status == 503 else None
    return None


@pytest.mark.long
@pytest.mark.parametrize("number", [None, signal.SIGQUIT, signal.SIGKILL])
def test_no_201_is_false_when_the_database_goes_away(
        own_cluster: Cluster, start_api: Callable, number: signal.Signals | None) -> None:
    url = own_cluster.fresh()
    api = start_api(url)
    acknowledged: list[str] = []
    statuses: set[int] = set()
    stop = threading.Event()

    def talk() -> None:
        client = api.client()
        while not stop.is_set():
            answer = client.post(TASK, expect=None)
            statuses.add(answer.status)
            if answer.status == 201:
                acknowledged.append(answer.json["id"])

    threads = [threading.Thread(target=talk) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        so_far = len(acknowledged)
        eventually(lambda: len(acknowledged) > so_far + 100)
        own_cluster.crash(number) if number else own_cluster.stop()
        away = eventually(lambda: refusal(api.port))
        assert away.headers["Retry-After"] and away.headers["Content-Type"] == "application/problem+json"
        own_cluster.start()
    so_far = len(acknowledged)
    eventually(lambda: len(acknowledged) > so_far + 100)
    stop.set()
    for thread in threads:
        thread.join()
    with psycopg.connect(url) as db:
        stored = {str(id) for (id,) in db.execute("SELECT id FROM pgmill.tasks")}
    assert set(acknowledged) <= stored
    assert statuses <= {201, 503}


@pytest.mark.parametrize("head", [b"", b"POST /api/tasks/ HTTP/1.1\r\nHost: localhost\r\nX: "],
                         ids=["silent", "header"])
def test_slow_clients_do_not_stop_others_and_are_cut_off(start_api: Callable, head: bytes) -> None:
    """The deadline of 5 s is absolute: a byte now and then does not keep a connection."""
    api = start_api()
    slow = [socket.create_connection(("127.0.0.1", api.port)) for _ in range(200)]
    for connection in slow:
        connection.sendall(head)
    client = api.client()

    def drip() -> int:
        client.post(TASK)
        gone = 0
        for connection in slow:
            try:
                connection.sendall(b"x")
                gone += connection.recv(4096, socket.MSG_DONTWAIT | socket.MSG_PEEK) == b""
            except BlockingIOError:
                pass
            except OSError:
                gone += 1
        return gone

    eventually(lambda: drip() == len(slow), within=20)
    for connection in slow:
        connection.close()


@pytest.mark.parametrize("lost", ["everything", "header", "body"])
def test_clients_that_vanish_in_the_middle_do_no_harm(start_api: Callable, db: psycopg.Connection, lost: str) -> None:
    api = start_api()
    text = (b"POST /api/tasks/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 13\r\n\r\n")
    sent = {"everything": b"", "header": text[:-20], "body": text + b'{"name"'}[lost]
    for _ in range(100):
        with socket.create_connection(("127.0.0.1", api.port)) as connection:
            connection.sendall(sent)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # by a reset
    api.client().post(TASK)
    assert db.execute("SELECT count(*) FROM pgmill.tasks").fetchone() == (1,)


def test_a_client_that_vanishes_before_its_answer_does_no_harm(start_api: Callable, db: psycopg.Connection) -> None:
    api = start_api()
    lock = psycopg.connect(db.info.dsn + " dbname=" + db.info.dbname)
    lock.execute("LOCK pgmill.tasks IN EXCLUSIVE MODE")
    for _ in range(50):
        connection = http.client.HTTPConnection("127.0.0.1", api.port)
        connection.request("POST", "/api/tasks/", '{"name": "t"}', {"Content-Type": "application/json"})
        connection.close()
    lock.rollback()
    lock.close()
    api.client().post(TASK)
    eventually(lambda: db.execute("SELECT count(*) FROM pgmill.tasks").fetchone()[0] > 1)


def test_sigterm_answers_what_is_pending(start_api: Callable, db: psycopg.Connection, connect: Callable) -> None:
    api = start_api()
    lock = connect(autocommit=False)
    lock.execute("LOCK pgmill.tasks IN EXCLUSIVE MODE")
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=20)
    connection.request("POST", "/api/tasks/", '{"name": "t"}', {"Content-Type": "application/json"})
    eventually(lambda: db.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()[0] > 0)
    api.process.signal(signal.SIGTERM)
    api.process.wait_message("STOPPING=1")
    lock.rollback()
    assert connection.getresponse().status == 201
    assert api.process.wait() == 0


def test_a_second_sigterm_ends_it_with_requests_on_every_session(
        start_api: Callable, db: psycopg.Connection, connect: Callable) -> None:
    api = start_api()
    lock = connect(autocommit=False)
    lock.execute("LOCK pgmill.tasks IN EXCLUSIVE MODE")
    clients = [http.client.HTTPConnection("127.0.0.1", api.port, timeout=20) for _ in range(6)]
    for sent, client in enumerate(clients):  # two groups under way, the others wait
        client.request("POST", "/api/tasks/", '{"name": "t"}', {"Content-Type": "application/json"})
        eventually(lambda: db.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()[0] > min(sent, 1))
    for _ in range(2):
        api.process.signal(signal.SIGTERM)
        api.process.wait_message("STOPPING=1")
    assert api.process.wait() == 0


SESSIONS = ("FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database() "
            "AND application_name LIKE 'pgmill%'")


@pytest.mark.parametrize("unseen", [False, True])
def test_lost_sessions_come_back_and_every_request_is_answered(
        start_api: Callable, db: psycopg.Connection, unseen: bool) -> None:
    """unseen: the service learns of the sessions' end by sending to them."""
    api = start_api()
    for _ in range(5):
        eventually(lambda: api.client().get("/readyz", expect=None).status == 200)
        api.process.signal(signal.SIGSTOP if unseen else signal.SIGCONT)
        db.execute(f"SELECT pg_terminate_backend(pid) {SESSIONS}")
        if unseen:
            eventually(lambda: db.execute(f"SELECT count(*) {SESSIONS}").fetchone() == (0,))
        clients = [http.client.HTTPConnection("127.0.0.1", api.port, timeout=20) for _ in range(4)]
        for client in clients:
            client.request("POST", "/api/tasks/", '{"name": "t"}', {"Content-Type": "application/json"})
        api.process.signal(signal.SIGCONT)
        assert {client.getresponse().status for client in clients} <= {201, 503}
        eventually(lambda: api.client().post(TASK, expect=None).status == 201)


class Load:
    """Clients that submit one task after another, each over a connection of its own."""

    def __init__(self, port: int, clients: int) -> None:
        self.port, self.acknowledged, self.refused, self.stop = port, [], [], threading.Event()
        self.threads = [threading.Thread(target=self._talk) for _ in range(clients)]
        for thread in self.threads:
            thread.start()

    def _talk(self) -> None:
        while not self.stop.is_set():
            client = Client(self.port)
            try:
                self.acknowledged.append(client.post(TASK, Connection="close").json["id"])
            except BaseException as e:
                self.refused.append(e)
            client.close()

    def goes_on(self) -> None:
        so_far = len(self.acknowledged)
        eventually(lambda: self.refused or len(self.acknowledged) > so_far + 50)

    def end(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()


RESTARTS = int(os.environ.get("PGMILL_RESTARTS", "5"))


def test_a_restart_under_load_refuses_nobody(
        run: Callable[..., Process], database: str, db: psycopg.Connection) -> None:
    """The sockets are the manager's: who comes while no service runs waits for the next one."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    process = run("api", "--database", database, sockets=[listener]).ready()
    load = Load(listener.getsockname()[1], clients=16)
    for _ in range(RESTARTS):
        load.goes_on()
        assert process.stop() == 0
        process = run("api", "--database", database, sockets=[listener]).ready()
    load.end()
    assert load.refused == []
    assert set(load.acknowledged) == {str(id) for (id,) in db.execute("SELECT id FROM pgmill.tasks")}


def test_two_processes_on_one_port_are_restarted_in_turn(
        run: Callable[..., Process], database: str, db: psycopg.Connection) -> None:
    """As with ReusePort=: each has a socket of its own, which its manager keeps."""
    listeners = [socket.create_server(("127.0.0.1", 0), backlog=1024, reuse_port=True)]
    listeners.append(socket.create_server(listeners[0].getsockname(), backlog=1024, reuse_port=True))
    processes = [run("api", "--database", database, sockets=[listener]).ready() for listener in listeners]
    load = Load(listeners[0].getsockname()[1], clients=16)
    for i in range(RESTARTS):
        load.goes_on()
        assert processes[i % 2].stop() == 0
        processes[i % 2] = run("api", "--database", database, sockets=[listeners[i % 2]]).ready()
    load.end()
    assert load.refused == []
    assert set(load.acknowledged) == {str(id) for (id,) in db.execute("SELECT id FROM pgmill.tasks")}


def test_without_a_schema_it_waits_for_migrate(cluster: Cluster, start_api: Callable, pgmill: str) -> None:
    url = cluster.create("template0")
    api = start_api(url, wait=False)
    api.process.wait_message("migrate")
    api.client().post(TASK, expect=503)
    subprocess.run([pgmill, "migrate", "--database", url], check=True, stdout=subprocess.DEVNULL)
    api.process.wait_message("READY=1")
    api.client().post(TASK)


# ---- behind a proxy ----


def test_what_an_answer_refers_to_is_below_the_base_path(start_api: Callable, folder: pathlib.Path) -> None:
    config = folder / "pgmill.conf"
    config.write_text("[API]\nBasePath=/queue/v1\n")
    api = start_api(arguments=["--config", str(config)])
    client = api.client()
    task = {"name": "t", "unique_key": "k"}
    made = client.post(task)
    path = f"/queue/v1/api/tasks/{made.json['id']}"
    assert made.headers["Location"] == path
    assert client.post(task, 409).headers["Location"] == path
    assert client.post({"name": "t"}).headers["Location"].startswith("/queue/v1/api/tasks/")
    assert client.get("/api/tasks/?limit=1&name=t").headers["Link"].startswith("</queue/v1/api/tasks/?name=t&limit=1&cursor=")
    config.write_text("[API]\nBasePath=\n")
    api.process.signal(signal.SIGHUP)
    eventually(lambda: client.post({"name": "t"}).headers["Location"].startswith("/api/tasks/"))


@pytest.mark.parametrize("path", ["queue", "/queue/", "/", "//queue", "/a b", "http://a/b", "/" + "x" * 200])
def test_a_base_path_that_is_none_is_refused(run: Callable[..., Process], database: str, path: str) -> None:
    process = run("api", "--database", database, "--listen", "127.0.0.1:0", "--base-path", path)
    assert process.wait() == os.EX_CONFIG and "BasePath=" in process.log
