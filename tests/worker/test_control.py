# SPDX-License-Identifier: MIT
"""The control socket of a worker, ending when idle, and workers that start on demand."""

import json
import os
import pathlib
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.process import Process, eventually

from .conftest import Mill


class Peer:
    def __init__(self, path: pathlib.Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(str(path))
        self.file = self.socket.makefile("rb")

    def say(self, text: str) -> None:
        self.socket.sendall(text.encode())

    def hear(self) -> Any:
        line = self.file.readline()
        return json.loads(line) if line else None

    def ask(self, word: str) -> Any:
        self.say(word + "\n")
        return self.hear()

    def close(self) -> None:
        self.file.close()
        self.socket.close()


@pytest.fixture
def path(folder: pathlib.Path) -> pathlib.Path:
    (folder / "worker").mkdir()
    return folder / "worker/w.sock"


@pytest.fixture
def peer(path: pathlib.Path) -> Iterator[Callable[[], Peer]]:
    peers: list[Peer] = []

    def peer() -> Peer:
        peers.append(Peer(path))
        return peers[-1]

    yield peer
    for one in peers:
        one.close()


@pytest.fixture
def start(mill: Mill, path: pathlib.Path) -> Callable[..., Process]:
    """A worker with a control socket."""
    def start(*options: str, **more: Any) -> Process:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen(64)
        return mill.start("w", *options, sockets=[listener], **more)

    return start


def test_status_tells_what_runs(mill: Mill, start: Callable[..., Process], peer: Callable[[], Peer]) -> None:
    mill.handler("t", 'systemd-notify --status="half \\"way\\"" X_PGMILL_PROGRESS=42.5; sleep 600')
    worker = start("--queues", "mail,default", "--concurrency", "3")
    me = peer()
    idle = me.ask("status")
    assert idle | {"id": "", "version": ""} == {
        "name": "w", "id": "", "pid": worker.popen.pid, "version": "", "state": "serving", "database": "connected",
        "slots": 3, "busy": 0, "queues": ["mail", "default"], "resting": {}, "tasks": []}
    id = mill.submit("t", queue="mail")
    busy = eventually(lambda: (s := me.ask("status"))["tasks"] and "progress" in s["tasks"][0] and s)
    (task,) = busy["tasks"]
    assert busy["busy"] == 1 and task.pop("seconds") > 0 and task.pop("since").endswith("Z")
    assert task == {"id": str(id), "name": "t", "queue": "mail", "attempt": 1, "state": "running", "progress": 42.5,
                    "status_text": 'half "way"'}
    mill.db.execute("SELECT pgmill.pause(%s)", [id])
    eventually(lambda: me.ask("status")["tasks"][0]["state"] == "paused")


def test_the_log_is_read_as_it_comes(mill: Mill, start: Callable[..., Process], peer: Callable[[], Peer]) -> None:
    mill.handler("t", 'echo "<4>a \\"line\\"" >&2')
    start()
    me = peer()
    assert me.ask("log") == {"following": "w"}
    id = mill.submit("t")
    lines = []
    while not lines or not lines[-1]["message"].startswith("Completed"):
        lines.append(me.hear())
    assert [(line["level"], line["message"]) for line in lines][:2] == [(6, "Attempt 1 of 3 begins"), (4, 'a "line"')]
    assert {(line["task"], line["name"], line["queue"], line["attempt"]) for line in lines} == {(str(id), "t", "default", 1)}


def test_lines_of_a_co_process_have_no_task(mill: Mill, start: Callable[..., Process], peer: Callable[[], Peer],
                                            folder: pathlib.Path) -> None:
    program = folder / "co"
    program.write_text("#!/bin/sh\necho ready >&2\nexec cat >/dev/null\n")
    program.chmod(0o755)
    mill.conf("co", Mode="stream", Exec=str(program))
    start()
    me = peer()
    me.ask("log")
    mill.submit("co")
    while (line := me.hear())["message"] != "ready":
        assert line["task"]
    assert line.pop("at") and line == {"level": 6, "name": "co", "task": None, "message": "ready"}


def test_a_slow_reader_loses_lines_and_is_told_how_many(mill: Mill, start: Callable[..., Process],
                                                        peer: Callable[[], Peer]) -> None:
    mill.handler("t", "seq 1 20000 >&2; echo done", LogRateLimitBurst="infinity")
    start()
    me, other = peer(), peer()
    me.ask("log")
    assert mill.ended(mill.submit("t"))["result"] == "done"
    assert other.ask("status")["state"] == "serving"
    heard: list[Any] = []
    while not heard or "dropped" not in heard[-1]:
        heard.append(me.hear())
    told = sum(line.get("message", "").isdigit() for line in heard)
    # The beginning was heard; the end may have been among those dropped.
    assert 0 < told < 20000 and told + heard[-1]["dropped"] in (20000, 20001)


def test_who_reads_the_log_may_go_away(mill: Mill, start: Callable[..., Process], peer: Callable[[], Peer]) -> None:
    mill.handler("t", "seq 1 2000 >&2", LogRateLimitBurst="infinity")
    start()
    for _ in range(20):  # more than may be there at once
        me = peer()
        me.ask("log")
        me.close()
        mill.submit("t")
    eventually(lambda: not [t for t, in mill.db.execute("SELECT status FROM pgmill.task") if t != "COMPLETED"])
    assert peer().ask("status")["state"] == "serving"


@pytest.mark.parametrize("said, answers", [
    ("nonsense\nstatus\n", ['"nonsense" is none of: status log wake', None]),
    ("status\r\nwake\n", [None, None]),
    ("wake", [None]),
    ("\n", ['"" is none of: status log wake']),
    ("x" * 65, [f'"{"x" * 16}" is none of: status log wake']),
])
def test_words(start: Callable[..., Process], peer: Callable[[], Peer], said: str, answers: list[str | None]) -> None:
    start()
    me = peer()
    me.say(said)
    if len(said) < 65:
        me.socket.shutdown(socket.SHUT_WR)
    for answer in answers:
        assert me.hear().get("error") == answer
    assert me.hear() is None


def test_connections_are_bounded(start: Callable[..., Process], peer: Callable[[], Peer]) -> None:
    start()
    peers = [peer() for _ in range(16)]
    assert all(one.ask("status")["name"] == "w" for one in peers)
    assert peer().hear() == {"error": "too many connections"}
    peers[3].close()
    eventually(lambda: peer().ask("status").get("name") == "w")


def test_without_a_database_it_says_so(mill: Mill, start: Callable[..., Process], peer: Callable[[], Peer]) -> None:
    start("--database", "host=/nonexistent", wait=False)
    status = eventually(lambda: (s := peer().ask("status"))["database"] != "connecting" and s)
    assert status["state"] == "waiting" and status["id"] is None and "/nonexistent" in status["database"]


def test_another_kind_of_socket_is_refused(mill: Mill) -> None:
    worker = mill.start("w", sockets=[socket.create_server(("127.0.0.1", 0))], wait=False)
    assert worker.wait() == 78
    assert "one listening Unix socket" in worker.log


# ---- idle ----

def test_it_ends_when_there_is_nothing_to_do(mill: Mill, start: Callable[..., Process]) -> None:
    mill.handler("t", "sleep 2; echo done")
    worker = start("--idle-exit", "500ms")
    id = mill.submit("t")
    assert worker.wait() == 0
    assert mill.show(id)["status"] == "COMPLETED" and "STOPPING=1" in worker.messages
    assert "Nothing to do for 500ms" in worker.log
    assert mill.db.execute("SELECT count(*) FROM pgmill.heartbeats").fetchone() == (0,)


def test_it_stays_while_its_queues_may_need_it(mill: Mill, start: Callable[..., Process], path: pathlib.Path) -> None:
    mill.handler("t", "true")
    id = mill.submit("t", scheduled_at="2099-01-01")
    worker = start("--idle-exit", "100ms")
    asked = "SELECT calls FROM pg_stat_user_functions WHERE funcname = 'is_idle'"
    mill.db.execute(f"ALTER DATABASE {mill.db.info.dbname} SET track_functions = 'all'")
    worker.stop()
    path.unlink()
    worker = start("--idle-exit", "100ms")
    eventually(lambda: (calls := mill.db.execute(asked).fetchone()) and calls[0] >= 2)
    assert worker.popen.poll() is None
    mill.db.execute("SELECT pgmill.cancel(%s)", [id])
    assert worker.wait() == 0


def test_it_stays_while_somebody_reads_its_log(mill: Mill, start: Callable[..., Process], peer: Callable[[], Peer]) -> None:
    worker = start("--idle-exit", "1500ms")
    me = peer()
    me.ask("log")
    eventually(lambda: mill.db.execute("SELECT beat > 0 FROM pgmill.heartbeats").fetchone() == (True,))
    with pytest.raises(subprocess.TimeoutExpired):
        worker.popen.wait(4)
    me.close()
    assert worker.wait() == 0


# ---- on demand ----

def own_run(folder: pathlib.Path) -> list[str]:
    """A file system of its own at /run, where /run/pgmill is the test's folder."""
    return ["unshare", "--mount", *(["--map-root-user"] if os.geteuid() else []), "/bin/sh", "-c",
            f'mount -t tmpfs tmpfs /run && ln -s {folder} /run/pgmill && exec "$@"', "sh"]


@pytest.fixture
def on_demand(mill: Mill, pgmill: str, folder: pathlib.Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """What listens for a worker, and becomes the worker with the first connection."""
    started: list[subprocess.Popen[bytes]] = []

    def on_demand(name: str, *options: str) -> subprocess.Popen[bytes]:
        (folder / "worker").mkdir(exist_ok=True)
        path = folder / f"worker/{name}.sock"
        path.unlink(missing_ok=True)
        started.append(subprocess.Popen(
            ["systemd-socket-activate", f"--listen={path}", pgmill, "worker", name, "--database", mill.database,
             "--tasks", str(mill.tasks), *options], stderr=subprocess.DEVNULL, start_new_session=True))
        eventually(path.exists)
        return started[-1]

    yield on_demand
    for one in started:
        if one.poll() is None:
            one.send_signal(signal.SIGTERM)
            one.wait(30)


def test_from_no_worker_to_a_completed_task_and_back(
        mill: Mill, on_demand: Callable[..., subprocess.Popen[bytes]], start_api: Callable[..., Any],
        folder: pathlib.Path) -> None:
    mill.handler("t", "echo done")
    api = start_api(before=own_run(folder)).client()
    for _ in range(2):
        worker = on_demand("w", "--idle-exit", "500ms")
        assert api.get("/api/workers/").json["workers"] == []
        id = api.post({"name": "t"}).json["id"]
        assert api.get(f"/api/tasks/{id}?wait=30").json["result"] == "done"
        assert worker.wait(30) == 0


def test_who_serves_a_queue_is_enough(
        mill: Mill, on_demand: Callable[..., subprocess.Popen[bytes]], start_api: Callable[..., Any],
        folder: pathlib.Path) -> None:
    mill.handler("t", "echo done")
    mill.start("here")
    other = on_demand("mail", "--queues", "mail", "--idle-exit", "500ms")
    api = start_api(before=own_run(folder)).client()
    id = api.post({"name": "t"}).json["id"]
    assert api.get(f"/api/tasks/{id}?wait=30").json["worker"]
    assert other.poll() is None and b"systemd-socket" in pathlib.Path(f"/proc/{other.pid}/cmdline").read_bytes()
    id = api.post({"name": "t", "queue": "mail"}).json["id"]
    assert api.get(f"/api/tasks/{id}?wait=30").json["result"] == "done"
    assert other.wait(30) == 0


def test_the_verb_asks_those_that_run(mill: Mill, start: Callable[..., Process], pgmill: str, folder: pathlib.Path) -> None:
    mill.handler("t", "echo said >&2; sleep 600")
    (folder / "alive").mkdir()
    start(environment={"RUNTIME_DIRECTORY": str(folder / "alive")})
    (folder / "alive/idle").touch()  # of one that has ended
    idle = socket.socket(socket.AF_UNIX)
    idle.bind(str(folder / "worker/idle.sock"))
    idle.listen()

    def local(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*own_run(folder), pgmill, "local", *arguments], capture_output=True, text=True)

    rows = [line.split() for line in local().stdout.splitlines()]
    assert rows[0] == ["WORKER", "STATE", "PID", "BUSY", "SLOTS", "QUEUES", "RESTING", "DATABASE"]
    assert sorted(row[:2] for row in rows[1:]) == [["idle", "stopped"], ["w", "serving"]]
    assert json.loads(local("--json", "w").stdout)["slots"] == 4
    assert local("--wake", "w").returncode == 0
    assert local("--log").returncode == 64 and local("../w").returncode == 64
    gone = local("nobody")
    assert gone.returncode == 69 and "systemctl start pgmill-worker@" in gone.stderr
    with subprocess.Popen([*own_run(folder), pgmill, "local", "--log", "w"], stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout and json.loads(follower.stdout.readline()) == {"following": "w"}
        mill.submit("t")
        assert [json.loads(follower.stdout.readline())["message"] for _ in range(2)] == ["Attempt 1 of 3 begins", "said"]
        follower.terminate()
    idle.close()
