# SPDX-License-Identifier: MIT
"""Fixtures: a cluster for the session, a migrated database for a test, and the real executable beside it."""

import contextlib
import os
import pathlib
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator

import psycopg
import pytest

from support.api import Client
from support.cluster import Cluster
from support.process import Process, adopt_orphans, eventually, orphans
from support.proxy import Proxy

ROOT = pathlib.Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pgmill", default=os.environ.get("PGMILL_EXECUTABLE", str(ROOT / "build/asan/pgmill")))


def pytest_configure() -> None:
    adopt_orphans()


@pytest.fixture(scope="session")
def pgmill(request: pytest.FixtureRequest) -> str:
    return str(pathlib.Path(request.config.getoption("--pgmill")).resolve())


@pytest.fixture(scope="session")
def cluster(pgmill: str) -> Iterator[Cluster]:
    cluster = Cluster(pgmill)
    yield cluster
    cluster.remove()


@pytest.fixture
def own_cluster(pgmill: str) -> Iterator[Cluster]:
    """For tests that stop the server."""
    cluster = Cluster(pgmill)
    yield cluster
    cluster.remove()


@pytest.fixture
def database(cluster: Cluster) -> Iterator[str]:
    with cluster.lent() as url:
        yield url


@pytest.fixture
def connect(database: str) -> Iterator[Callable[..., psycopg.Connection]]:
    connections: list[psycopg.Connection] = []

    def connect(autocommit: bool = True, url: str = database) -> psycopg.Connection:
        connections.append(psycopg.connect(url, autocommit=autocommit))
        return connections[-1]

    yield connect
    for connection in connections:
        connection.close()


@pytest.fixture
def db(connect: Callable[..., psycopg.Connection]) -> psycopg.Connection:
    return connect()


@pytest.fixture
def folder() -> Iterator[pathlib.Path]:
    """Short, because it holds Unix sockets."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="pgm-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def run(pgmill: str, folder: pathlib.Path) -> Iterator[Callable[..., Process]]:
    """run("worker", "w1", …) starts the executable; what a test leaves running is ended and its log looked at."""
    processes: list[Process] = []

    def run(*arguments: str, **options: object) -> Process:
        processes.append(Process([pgmill, *arguments], folder, **options))  # type: ignore[arg-type]
        return processes[-1]

    yield run
    try:
        with contextlib.ExitStack() as stack:  # all of them, also when one complains
            for process in processes:
                stack.callback(process.close)
    finally:
        try:
            eventually(lambda: not orphans(), within=5)
        finally:
            assert not (left := orphans(end=True)), f"left behind: {left}"


@pytest.fixture
def wires() -> Iterator[Callable[[str], Proxy]]:
    """wires(url).url leads to the database through a wire that the test can hold, cut or mute."""
    wires: list[Proxy] = []

    def wire(url: str) -> Proxy:
        wires.append(Proxy(url))
        return wires[-1]

    yield wire
    for each in wires:
        each.close()


class Api:
    def __init__(self, run: Callable[..., Process], database: str, arguments: list[str], **options: object) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self.listener.getsockname()[1]
        self.process = run("api", "--database", database, *arguments, sockets=[self.listener], **options)

    def client(self) -> Client:
        return Client(self.port)


@pytest.fixture
def start_api(run: Callable[..., Process], database: str) -> Callable[..., Api]:
    def start(url: str = database, wait: bool = True, arguments: list[str] | None = None, **options: object) -> Api:
        api = Api(run, url, arguments or [], **options)
        if wait:
            api.process.ready()
        return api

    return start


@pytest.fixture
def api(start_api: Callable[..., Api]) -> Client:
    return start_api().client()
