# SPDX-License-Identifier: MIT
"""The API as a service: sockets, readiness, the database away, slow clients, stopping."""

import http.client
import signal
import socket
import subprocess
import threading
from collections.abc import Callable

import psycopg

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


def test_no_201_is_false_when_the_database_crashes(own_cluster: Cluster, start_api: Callable) -> None:
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
        own_cluster.stop()
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


def test_slow_clients_do_not_stop_others(start_api: Callable) -> None:
    api = start_api()
    slow = [socket.create_connection(("127.0.0.1", api.port)) for _ in range(200)]
    for connection in slow:
        connection.sendall(b"POST /api/tasks/ HTTP/1.1\r\nHost: localhost\r\nContent-")
    api.client().post(TASK)
    # The deadline of 5 s ends them; it is absolute, not idle time.
    slow[0].settimeout(20)
    assert slow[0].recv(4096) in (b"", b"HTTP/1.1 408 Request Timeout")
    api.client().post(TASK)


def test_clients_that_vanish_do_no_harm(start_api: Callable, db: psycopg.Connection) -> None:
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


def test_the_connection_to_the_database_comes_back(start_api: Callable, db: psycopg.Connection) -> None:
    api = start_api()
    client = api.client()
    db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
               "WHERE pid <> pg_backend_pid() AND datname = current_database()")
    eventually(lambda: client.post(TASK, expect=None).status == 201)


def test_without_a_schema_it_waits_for_migrate(cluster: Cluster, start_api: Callable, pgmill: str) -> None:
    url = cluster.create("template0")
    api = start_api(url, wait=False)
    api.process.wait_message("migrate")
    api.client().post(TASK, expect=503)
    subprocess.run([pgmill, "migrate", "--database", url], check=True, stdout=subprocess.DEVNULL)
    api.process.wait_message("READY=1")
    api.client().post(TASK)
