# SPDX-License-Identifier: MIT
"""The client verbs: what they print and the exit statuses they end with."""

import json
import subprocess
from collections.abc import Callable

import pytest

from support.cluster import Cluster
from support.process import eventually
from support.proxy import SERVER, Proxy

from .conftest import Mill


def run(pgmill: str, database: str, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    verb, *rest = arguments
    command = [pgmill, verb, "--database", database, *rest]
    return subprocess.run(command, input=text, capture_output=True, text=True)


def test_submit_show_and_list(pgmill: str, database: str) -> None:
    id = run(pgmill, database, "submit", "t", "--payload", "-", "--priority", "high", "--at", "2023-10-01T10:00:00",
             "--tags", "a,b", "--timeout", "90s", text='{"n": 9007199254740993}').stdout.strip()
    shown = run(pgmill, database, "show", id).stdout
    assert '"payload": {"n": 9007199254740993}' in shown
    task = json.loads(shown)
    assert (task["id"], task["priority"], task["tags"], task["timeout"]) == (id, "HIGH", ["a", "b"], 90)
    assert task["scheduled_at"] == "2023-10-01T10:00:00Z"
    assert json.loads(run(pgmill, database, "list", "--status", "available").stdout) == task
    assert json.loads(run(pgmill, database, "list", "--status", "RUNNING,available").stdout) == task
    assert run(pgmill, database, "list", "--status", "failed,running").stdout == ""


def test_a_submission_that_no_worker_takes_is_told(pgmill: str, database: str, mill: Mill) -> None:
    told = run(pgmill, database, "submit", "t", "--queue", "mail")
    assert told.returncode == 0 and mill.row(told.stdout.strip())
    assert 'No worker serves the queue "mail" now' in told.stderr
    mill.worker()
    assert run(pgmill, database, "submit", "t").stderr == ""


@pytest.mark.parametrize("arguments, status, complaint", [
    (["submit"], 64, "one argument"),
    (["submit", "no name"], 64, "is no name"),
    (["submit", "t", "--payload", "{"], 64, "--payload: not JSON"),
    (["submit", "t", "--payload", '"\\u0000"'], 64, "cannot be stored"),
    (["submit", "t", "--payload", "[" + ",".join(["1e131071"] * 9) + "]"], 64, "cannot be stored"),
    (["submit", "t", "--priority", "URGENT"], 64, "none of LOW"),
    (["submit", "t", "--at", "tomorrow"], 64, "is no time"),
    (["submit", "t", "--colour", "red"], 64, "no such option"),
    (["show"], 64, "one argument, the id of a task"),
    (["show", "x"], 64, '"x" is not the id of a task'),
    (["show", "00000000-0000-0000-0000-000000000000"], 66, "There is no task"),
    (["pause"], 64, "ids of tasks"),
    (["resume", "00000000-0000-0000-0000-000000000000", "x"], 64, "is not the id of a task"),
    (["retry", "00000000-0000-0000-0000-000000000000"], 66, "there is no such task"),
    (["cancel", "00000000-0000-0000-0000-000000000000", "--wait", "soon"], 64, "no span of time"),
    (["list", "--status", "FAILED,HAPPY"], 64, '"HAPPY" is none of SCHEDULED'),
    (["list", "--status", "FAILED,"], 64, '"" is none of SCHEDULED'),
    (["list", "--limit", "0"], 64, "--limit"),
    (["queues", "mail"], 64, "options only"),
])
def test_bad_input_is_named(pgmill: str, database: str, arguments: list[str], status: int, complaint: str) -> None:
    ended = run(pgmill, database, *arguments)
    assert (ended.returncode, complaint in ended.stderr) == (status, True), ended.stderr


def test_no_database_is_said(pgmill: str) -> None:
    assert run(pgmill, "host=/nonexistent", "list").returncode == 69


@pytest.mark.parametrize("verb", ["api", "worker", "migrate", "submit", "show", "list", "pause", "resume", "cancel", "retry",
                                  "queues", "workers", "stats"])
def test_every_verb_has_help(pgmill: str, verb: str) -> None:
    ended = subprocess.run([pgmill, verb, "--help"], capture_output=True, text=True)
    assert ended.returncode == 0 and f"pgmill {verb}" in ended.stdout and "--config=FILE" in ended.stdout


def test_help_is_an_option_and_no_argument(pgmill: str, database: str, mill: Mill) -> None:
    """As getopt_long(3) has it."""
    id = run(pgmill, database, "submit", "t", "--unique-key", "--help").stdout.strip()
    assert json.loads(run(pgmill, database, "show", id).stdout)["unique_key"] == "--help"
    for arguments in (["submit", "--", "--help"], ["show", "--", "--help"], ["cancel", "--", "--help"]):
        ended = run(pgmill, database, *arguments)
        assert ended.returncode in (64, 65) and "--help" in ended.stderr and not ended.stdout
    for arguments in (["t", "--help"], ["--queue", "q", "--help", "t"], ["--help", "--", "t"], ["--nonsense", "--help"]):
        ended = run(pgmill, database, "submit", *arguments)
        assert ended.returncode == 0 and "pgmill submit" in ended.stdout


def test_tasks_are_steered(pgmill: str, database: str, mill: Mill) -> None:
    one, two = (str(mill.submit("t")) for _ in range(2))

    def steer(verb: str, *arguments: str) -> tuple[int, list[str]]:
        ended = run(pgmill, database, verb, *arguments)
        return ended.returncode, ended.stdout.splitlines()

    assert steer("pause", one, two) == (0, [f"{one}  PAUSED", f"{two}  PAUSED"])
    assert steer("resume", two) == (0, [f"{two}  AVAILABLE"])
    assert steer("cancel", one, two) == (0, [f"{one}  CANCELLED", f"{two}  CANCELLED"])
    assert steer("pause", one) == (65, [f"{one}  CANCELLED"])
    assert steer("cancel", one) == (0, [f"{one}  CANCELLED"])  # it is so already
    status, [line] = steer("retry", one, "--json")
    assert status == 0 and json.loads(line) == json.loads(run(pgmill, database, "show", one).stdout)
    assert json.loads(line)["status"] == "AVAILABLE"
    unknown = "00000000-0000-0000-0000-000000000000"
    assert steer("pause", unknown, one) == (66, [f"{one}  PAUSED"])  # the others are paused all the same


def test_a_task_whose_worker_has_yet_to_act_is_no_success(pgmill: str, database: str, mill: Mill) -> None:
    worker = mill.worker()  # which does nothing by itself
    running, waiting = mill.submit("t"), mill.submit("t")
    [claim] = worker.claim(1)
    ended = run(pgmill, database, "pause", str(running), str(waiting), "--wait", "100ms")
    assert (ended.returncode, ended.stdout) == (75, f"{running}  RUNNING\n{waiting}  PAUSED\n")
    assert "has yet to do it" in ended.stderr
    assert run(pgmill, database, "retry", str(running)).returncode == 75
    worker.obey(claim, "frozen")
    assert run(pgmill, database, "pause", str(running)).stdout == f"{running}  PAUSED\n"


def test_a_handler_that_cannot_stand_still_is_told(pgmill: str, database: str, mill: Mill) -> None:
    worker = mill.worker()
    id = mill.submit("t")
    [claim] = worker.claim(1)
    command = [pgmill, "pause", "--database", database, "--wait", "1min", str(id)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as pause:
        while not worker.orders():
            pass
        worker.obey(claim, "unable")
        out, error = pause.communicate()
    assert (pause.returncode, out) == (65, f"{id}  RUNNING\n") and "stand still" in error


def test_what_somebody_holds_is_said(pgmill: str, database: str, mill: Mill) -> None:
    id = mill.submit("t")
    with mill.held(id):
        ended = run(pgmill, database, "cancel", str(id))
    assert ended.returncode == 75 and "open transaction" in ended.stderr


def test_queues_workers_and_stats_are_shown(pgmill: str, database: str, mill: Mill) -> None:
    worker = mill.worker(["t"])
    mill.submit("t", queue="mail")
    mill.submit("t")
    worker.claim(1)
    title, default, mail = run(pgmill, database, "queues").stdout.splitlines()
    assert title.split()[:3] == ["QUEUE", "AVAILABLE", "RUNNING"]
    assert default.split()[:3] == ["default", "0", "1"] and mail.split()[:3] == ["mail", "1", "0"]
    assert title.index("AVAILABLE") == mail.index("1")
    [shown] = [json.loads(line) for line in run(pgmill, database, "workers", "--json").stdout.splitlines()]
    assert (shown["id"], shown["queues"], shown["running"]) == (str(worker.id), ["default"], 1)
    assert f"{worker.id}" in run(pgmill, database, "workers").stdout.splitlines()[1]
    stats = dict(line.split() for line in run(pgmill, database, "stats").stdout.splitlines())
    assert (stats["tasks.RUNNING"], stats["tasks.AVAILABLE"], stats["workers"]) == ("1", "1", "1")
    assert json.loads(run(pgmill, database, "stats", "--json").stdout)["submitted"] == 2


def test_every_queue_is_listed(pgmill: str, database: str, mill: Mill) -> None:
    names = {f"q{n}" for n in range(1001)}
    mill.db.execute("SELECT pgmill.submit('t', queue => q) FROM unnest(%s::text[]) q", [list(names)])
    mill.db.execute("SELECT pgmill.tidy()")
    lines = run(pgmill, database, "queues").stdout.splitlines()
    assert len(lines) == 1002 and {line.split()[0] for line in lines[1:]} == names
    shown = [json.loads(line) for line in run(pgmill, database, "queues", "--json").stdout.splitlines()]
    assert len(shown) == 1001 and {queue["name"] for queue in shown} == names


def test_what_a_terminal_would_obey_is_not_printed(pgmill: str, database: str, mill: Mill) -> None:
    worker = mill.worker()
    mill.db.execute("UPDATE pgmill.workers SET host = E'a\\x1b[2Jb' WHERE id = %s", [worker.id])
    assert "a?[2Jb" in run(pgmill, database, "workers").stdout


@pytest.mark.long
def test_a_verb_does_not_wait_for_ever_for_an_answer(pgmill: str, database: str, wires: Callable[[str], Proxy]) -> None:
    """Units like that of a schedule let it wait as long as it likes."""
    wire = wires(database)
    trap = wire.trap(SERVER, lambda kind, body: kind == "T" and b"unique_key" in body)
    with subprocess.Popen([pgmill, "show", "--database", wire.url, "00000000-0000-0000-0000-000000000000"],
                          stderr=subprocess.PIPE, text=True) as verb:
        trap.wait()
        assert verb.wait(100) == 69
        assert "no answer of the server within" in verb.stderr.read()


@pytest.mark.long
def test_a_commit_that_may_not_be_replicated_is_not_acknowledged(pgmill: str, own_cluster: Cluster) -> None:
    url = own_cluster.fresh()
    own_cluster.configure(synchronous_standby_names="elsewhere")
    admin = own_cluster.admin
    eventually(lambda: admin.execute("SHOW synchronous_standby_names").fetchone() == ("elsewhere",))
    with subprocess.Popen([pgmill, "submit", "--database", url, "t"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as verb:
        eventually(lambda: admin.execute(
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'").fetchone())
        assert verb.wait(60) == 69
        assert verb.stdout.read() == "" and "may not have been replicated" in verb.stderr.read()
