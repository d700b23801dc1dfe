# SPDX-License-Identifier: MIT
"""Host names in the database's URL: looked up beside the loop, which must never wait for a name server."""

import os
import pathlib
import socket
from collections.abc import Callable, Iterator

import pytest

from support.api import Client
from support.process import Process

from .conftest import Mill

# A host of its own: a name server that takes every question and answers none.
MUTE = """
import os, socket, subprocess, sys
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
mute = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
mute.bind(("127.0.0.1", 53))
mute.set_inheritable(True)
os.execvp(sys.argv[1], sys.argv[1:])
"""
WITH_FILE = 'mount --bind "$0" "$1" && shift && exec "$@"'

Begin = Callable[..., Process]


@pytest.fixture
def elsewhere(pgmill: str, folder: pathlib.Path) -> Iterator[Begin]:
    """With this text in a file of the system."""
    if os.geteuid() != 0:
        pytest.skip("only root can put a file over another")
    processes: list[Process] = []

    def begin(path: str, text: str, arguments: list[str], mute: bool = False, **options: object) -> Process:
        (file := folder / pathlib.Path(path).name).write_text(text)
        host = ["--net", "python3", "-c", MUTE] if mute else []
        command = ["unshare", "--mount", *host, "sh", "-c", WITH_FILE, str(file), path, pgmill, *arguments]
        processes.append(Process(command, folder, watchdog=0.4, **options))  # type: ignore[arg-type]
        return processes[-1]

    yield begin
    for process in processes:
        process.close()


MUTE_HOST = {"path": "/etc/resolv.conf", "text": "nameserver 127.0.0.1\n", "mute": True}


@pytest.mark.long
def test_a_mute_name_server_does_not_hold_the_api_up(elsewhere: Begin) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        api = elsewhere(arguments=["api", "--database", "host=db.example"], sockets=[listener], **MUTE_HOST)
        Client(listener.getsockname()[1]).get("/healthz")  # when it has started
        client = Client(listener.getsockname()[1], timeout=5)  # libpq alone would wait 10 s, again and again
        while api.messages.count("WATCHDOG=1") < 25:  # some seconds: more than one try
            client.get("/healthz")
        api.wait_message("cannot resolve")


def test_nor_a_worker_which_goes_on_to_the_next_host(mill: Mill, elsewhere: Begin) -> None:
    folder = mill.database.split("host=")[1].split("&")[0]
    mill.handler("t", "true")
    worker = elsewhere(arguments=["worker", "w", "--tasks", str(mill.tasks), "--database",
                                  mill.database.replace("host=" + folder, f"host=db.example,{folder}")], **MUTE_HOST)
    worker.ready()
    before = worker.messages[:next(i for i, message in enumerate(worker.messages) if "READY=1" in message)]
    assert before.count("WATCHDOG=1") >= 5
    mill.ended(mill.submit("t"))


def test_every_address_of_a_name_is_tried(mill: Mill, elsewhere: Begin) -> None:
    with socket.create_server(("127.0.0.3", 0)) as server:
        server.settimeout(20)
        elsewhere("/etc/hosts", "127.0.0.2 db.example\n127.0.0.3 db.example\n", ["worker", "w", "--database",
                  f"host=db.example port={server.getsockname()[1]} sslmode=disable gssencmode=disable"])
        with server.accept()[0] as connection:
            assert b"pgmill-worker@w" in connection.recv(4096)


def test_a_name_without_an_address_is_named(mill: Mill, elsewhere: Begin) -> None:
    worker = elsewhere("/etc/resolv.conf", "nameserver 127.0.0.1\n", ["worker", "w", "--database", "host=no.example"])
    worker.wait_log('cannot resolve "no.example"')
