# SPDX-License-Identifier: MIT
"""Any single call that may fail fails: memory, files, processes, sockets, the loop, libpq, libmicrohttpd. The process lives on,
or ends with a status and is started again, as by its service manager; nothing that was acknowledged is lost."""

import http.client
import pathlib
import random
import re
import signal
import socket
import time
import uuid
from collections.abc import Callable

import pytest

from support.process import Process, eventually
from worker.conftest import Mill

PARTS = 4  # side by side


@pytest.fixture
def faulty(pgmill: str) -> str:
    path = pathlib.Path(pgmill).parent / "tests/fault/pgmill-faults"
    if not path.exists():
        pytest.skip("a static executable has no calls that can be made to fail")
    return str(path)


class Service:
    """A process in which one call fails. It is started again when it has ended."""

    def __init__(self, start: Callable[..., Process], fault: int) -> None:
        self.start = start
        self.process = start(fault)
        self.logs = ""

    def tend(self) -> None:
        if self.process.popen.poll() is None:
            if " 0 handlers" in self.process.log and "Read " not in self.process.log:
                self.process.signal(signal.SIGHUP)  # a file could not be read, and it said so
                self.process.wait_log("Read ")
            return
        status = self.process.wait()
        self.logs += self.process.log
        assert 0 < status < 128, f"it ended with {status}:\n{self.process.log}"
        self.process.close()
        self.process = self.start(0)

    def end(self) -> None:
        self.tend()
        self.process.close()
        print(*re.findall(r"faults: call (\d+ fails: \w+)", self.logs + self.process.log), "ended" if self.logs else "lived")


def calls(process: Process) -> int:
    process.close()
    return int(re.findall(r"faults: (\d+) calls", process.log)[-1])


def converse(port: int, stored: list[str], service: Service) -> None:
    """Submits until three are acknowledged, reads and steers what is there."""
    deadline = time.monotonic() + 60
    so_far = len(stored)
    while len(stored) < so_far + 3:
        assert time.monotonic() < deadline, service.process.log
        service.tend()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3)
        try:
            for method, path, body in (
                    ("POST", "/api/tasks/", '{"name": "t", "payload": {"key": "value"}}'),
                    ("GET", "/api/tasks/?status=COMPLETED,AVAILABLE", None), ("GET", "/api/queues/", None),
                    ("PATCH", f"/api/tasks/{uuid.UUID(int=1)}/pause", None), ("GET", "/metrics", None)):
                connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
                answer = connection.getresponse()
                text = answer.read()
                if method == "POST" and answer.status == 201:
                    stored.append(re.search(rb'"id":\s*"([^"]*)"', text)[1].decode())
        except (OSError, http.client.HTTPException):
            time.sleep(0.05)
        finally:
            connection.close()


def points(dice: random.Random, total: int, kills: int) -> list[int]:
    """The calls that fail. Most happen again and again: those of the beginning are many and different."""
    return sorted({int(total ** dice.random()) if dice.random() < 0.3 else dice.randrange(1, total + 1)
                   for _ in range(max(kills // PARTS // 2, 1))})


@pytest.mark.parametrize("part", range(PARTS))
def test_a_call_of_the_api_fails(
        faulty: str, database: str, db, folder: pathlib.Path, dice: random.Random, kills: int, part: int) -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    port = listener.getsockname()[1]

    def start(fault: int) -> Process:
        return Process([faulty, "api", "--database", database], folder, sockets=[listener.dup()],
                       environment={"PGMILL_FAULT": str(fault)})

    stored: list[str] = []
    service = Service(start, 0)
    converse(port, stored, service)
    for fault in points(dice, calls(service.process), kills):
        service = Service(start, fault)
        converse(port, stored, service)
        service.end()
    there = {str(id) for (id,) in db.execute("SELECT id FROM pgmill.tasks")}
    assert set(stored) <= there


@pytest.mark.parametrize("part", range(PARTS))
def test_a_call_of_the_worker_fails(
        faulty: str, mill: Mill, dice: random.Random, kills: int, part: int) -> None:
    mill.handler("t", "echo start $PGMILL_TASK $$ >>$J; echo said; echo end $PGMILL_TASK $$ >>$J", MaxAttempts="100")

    def start(fault: int) -> Process:
        return Process([faulty, "worker", "w", "--database", mill.database, "--tasks", str(mill.tasks), "--grace", "3s"],
                       mill.folder, environment={"PGMILL_FAULT": str(fault)})

    def ends(ids: list[uuid.UUID], service: Service) -> None:
        def all_ended() -> bool:
            service.tend()
            return all(mill.show(id)["status"] == "COMPLETED" for id in ids)

        try:
            eventually(all_ended, within=60)
        except AssertionError:
            raise AssertionError([mill.show(id) for id in ids], service.process.log) from None

    def submit() -> list[uuid.UUID]:
        return [mill.submit("t", '{"key": "value"}') for _ in range(3)]

    service = Service(start, 0)
    ends(submit(), service)
    for fault in points(dice, calls(service.process), kills):
        ids = submit()
        service = Service(start, fault)
        ends(ids, service)
        service.end()
    assert mill.overlaps() == 0
