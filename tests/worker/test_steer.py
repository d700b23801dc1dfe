# SPDX-License-Identifier: MIT
"""What is asked of a task while it runs: pause, resume, cancel; and that nothing of it escapes."""

import pathlib
import subprocess
import time
import uuid
from typing import Any

import pytest

from support.node import ROOT
from support.process import Process, alive, eventually

from .conftest import Mill

# Three processes that count for as long as they run: the program, its child, and one that left it by a double fork
# into a session of its own and ignores SIGTERM. The program ends when it is told to.
COUNT = """
(while :; do echo $$ >>$J.child; sleep 0.01; done) &
(setsid sh -c "trap '' TERM HUP; while :; do echo \\$\\$ >>$J.stray; sleep 0.01; done" &) &
while [ ! -e $J.stop ]; do echo $$ >>$J.main; sleep 0.01; done
echo done
"""
COUNTERS = ("main", "child", "stray")


def steer(mill: Mill, verb: str, id: uuid.UUID) -> str:
    return mill.db.execute(f"SELECT pgmill.{verb}(%s)", [id]).fetchone()[0]


def counters(mill: Mill) -> list[int]:
    files = [pathlib.Path(f"{mill.journal}.{name}") for name in COUNTERS]
    return [file.stat().st_size if file.exists() else 0 for file in files]


def counts_on(mill: Mill) -> None:
    before = counters(mill)
    eventually(lambda: all(now > then for now, then in zip(counters(mill), before)))


def marked(mark: object) -> list[int]:
    """Processes with this in their environment, whatever became of their parents."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"PGMILL_TASK={mark}".encode() in path.read_bytes() and alive(path.parent.name):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def counting(mill: Mill, *options: str, first: str = "", **keys: str) -> tuple[Process, uuid.UUID]:
    """A worker and its task, which counts, as do what it started and what left it."""
    mill.handler("t", f"{first}\n{COUNT}", **keys)
    worker, id = mill.start("w", *options), mill.submit("t")
    eventually(lambda: all(counters(mill)))
    return worker, id


def told_to_end(mill: Mill, id: uuid.UUID) -> dict[str, Any]:
    pathlib.Path(f"{mill.journal}.stop").touch()
    return mill.ended(id)


def test_a_running_task_stands_still_with_all_it_started_and_goes_on(held: Mill) -> None:
    worker, id = counting(held, Timeout="60s")
    begun = time.monotonic()
    assert steer(held, "pause", id) == "asked"
    task = held.until(id, "PAUSED")
    print(f"\npaused after {(time.monotonic() - begun) * 1000:.0f} ms")
    assert task["paused_at"] and task["attempt"] == 1 and task["finished_at"] is None
    before = counters(held)
    time.sleep(0.5)
    assert counters(held) == before
    assert steer(held, "pause", id) == "done"
    assert steer(held, "resume", id) == "asked"
    held.until(id, "RUNNING", "COMPLETED")
    counts_on(held)
    task = told_to_end(held, id)
    assert (task["result"], task["attempt"], task["errors"]) == ("done", 1, [])
    assert task["cpu_usec"] > 0 and task["memory_peak"] > 100_000
    assert not marked(id)
    assert ("No cgroup is delegated" in worker.log) == (held.cgroup is None)


def test_clocks_stand_still_with_it(held: Mill) -> None:
    held.handler("t", "echo begun >>$J; sleep 0.6; echo done", Timeout="1500ms", MaxAttempts="1")
    held.start()
    id = held.submit("t")
    eventually(held.runs)
    steer(held, "pause", id)
    held.until(id, "PAUSED")
    time.sleep(2)
    assert held.show(id)["status"] == "PAUSED"
    steer(held, "resume", id)
    assert held.ended(id)["result"] == "done"


def test_a_timeout_goes_on_when_it_does(held: Mill) -> None:
    _, id = counting(held, Timeout="1500ms", MaxAttempts="1", KillGrace="100ms")
    steer(held, "pause", id)
    held.until(id, "PAUSED")
    steer(held, "resume", id)
    assert held.ended(id, "FAILED")["error"] == "timed out after 1.5 s"
    assert not marked(id)


@pytest.mark.parametrize("holds", [False, True])
def test_its_slot_is_lent_if_so_configured(mill: Mill, holds: bool) -> None:
    mill.handler("t", "echo begun >>$J; sleep 0.3; echo $PGMILL_TASK >>$J")
    mill.start("w", "--concurrency", "1", "--paused-tasks-hold-slots", "yes" if holds else "no")
    id = mill.submit("t")
    eventually(mill.runs)
    steer(mill, "pause", id)
    mill.until(id, "PAUSED")
    others = [mill.submit("t") for _ in range(2)]
    if not holds:
        for other in others:
            mill.ended(other)
    steer(mill, "resume", id)
    mill.ended(id)
    for other in others:
        mill.ended(other)
    order = [line for line in mill.runs() if line != "begun"]
    assert order.index(str(id)) == (0 if holds else 2)


def test_a_frozen_task_is_cancelled_and_may_say_farewell(held: Mill) -> None:
    held.handler("t", "trap 'echo farewell >>$J; exit' TERM; echo begun >>$J; while :; do sleep 0.05; done")
    held.start()
    id = held.submit("t")
    eventually(held.runs)
    steer(held, "pause", id)
    held.until(id, "PAUSED")
    assert steer(held, "cancel", id) == "asked"
    held.ended(id, "CANCELLED")
    assert held.runs() == ["begun", "farewell"]


@pytest.mark.parametrize("how", ["cancel", "timeout", "frozen"])
def test_a_tree_that_hides_and_ignores_is_gone(held: Mill, how: str) -> None:
    keys = {"Timeout": "1s"} if how == "timeout" else {}
    worker, id = counting(held, first="trap '' TERM", KillGrace="500ms", MaxAttempts="1", **keys)
    assert len(marked(id)) >= 3
    if how == "frozen":
        steer(held, "pause", id)
        held.until(id, "PAUSED")
    if how != "timeout":
        steer(held, "cancel", id)
    task = held.ended(id, "FAILED" if how == "timeout" else "CANCELLED")
    assert not marked(id)  # whoever is told that it has ended may rely on it
    assert task["errors"][0]["signal"] == "SIGKILL" and task["errors"][0]["cpu_usec"] > 0
    assert worker.popen.poll() is None


def test_the_log_does_not_count_the_time_it_stood_still(mill: Mill) -> None:
    begun = time.monotonic()
    worker, id = counting(mill)
    steer(mill, "pause", id)
    mill.until(id, "PAUSED")
    time.sleep(2)  # is what is measured
    steer(mill, "resume", id)
    told_to_end(mill, id)
    worker.wait_log("Completed after")
    assert float(worker.log.split("Completed after ")[1].split()[0]) < time.monotonic() - begun - 1.9


def test_a_worker_that_stops_gives_a_frozen_task_back_as_paused(held: Mill) -> None:
    worker, id = counting(held, "--drain", "1h")
    steer(held, "pause", id)
    held.until(id, "PAUSED")
    assert worker.stop() == 0
    task = held.show(id)
    assert (task["status"], task["attempt"], task["errors"]) == ("PAUSED", 0, [])
    assert not marked(id)
    held.start("two")
    steer(held, "resume", id)
    assert told_to_end(held, id)["attempt"] == 1


def test_what_is_born_while_its_parents_end_is_found(mill: Mill) -> None:
    """Followed as process trees: a child comes to the worker when its parent ends, perhaps while the worker looks."""
    mill.handler("t", "(setsid sleep 1000 & sleep 1000) & sleep 0.02")
    mill.start("w", "--concurrency", "8")
    ids = [mill.submit("t") for _ in range(100)]
    for id in ids:
        mill.ended(id)
    assert not [pid for id in ids for pid in marked(id)]


def test_a_frozen_task_outlives_a_lost_session(mill: Mill) -> None:
    worker, id = counting(mill)
    steer(mill, "pause", id)
    mill.until(id, "PAUSED")
    mill.db.execute("SELECT pg_terminate_backend(backend_pid) FROM pgmill.workers")
    worker.wait_log("Waiting for the database")
    steer(mill, "resume", id)
    counts_on(mill)
    assert told_to_end(mill, id)["attempt"] == 1


@pytest.mark.long
def test_a_frozen_task_of_a_dead_worker_stays_paused(mill: Mill) -> None:
    mill.handler("t", "echo begun >>$J; exec sleep 1")
    worker = mill.start("one", "--grace", "3s")
    id = mill.submit("t")
    eventually(mill.runs)
    steer(mill, "pause", id)
    mill.until(id, "PAUSED")
    worker.kill()
    mill.start("two", "--grace", "3s")
    eventually(lambda: mill.show(id)["errors"], within=30)
    assert mill.show(id)["status"] == "PAUSED" and len(mill.runs()) == 1
    steer(mill, "resume", id)
    assert mill.ended(id)["attempt"] == 2


def test_over_rest_it_is_paused_when_the_answer_says_so(held: Mill, start_api) -> None:
    client = start_api().client()
    _, id = counting(held)
    begun = time.monotonic()
    assert client.patch(f"/api/tasks/{id}/pause").json["status"] == "PAUSED"
    print(f"\nPATCH pause took {(time.monotonic() - begun) * 1000:.0f} ms")
    before = counters(held)
    time.sleep(0.3)
    assert counters(held) == before
    task = client.patch(f"/api/tasks/{id}/resume").json
    assert (task["status"], task["paused_at"]) == ("RUNNING", None)
    told_to_end(held, id)
    client.patch(f"/api/tasks/{id}/pause", 409)


def test_from_the_command_line_it_is_paused_when_it_says_so(held: Mill, pgmill: str) -> None:
    def steer(verb: str) -> str:
        command = [pgmill, verb, "--database", held.database, "--wait", "20s", str(id)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    _, id = counting(held, KillGrace="100ms", first="trap '' TERM")
    assert steer("pause") == f"{id}  PAUSED\n"
    before = counters(held)
    time.sleep(0.3)
    assert counters(held) == before
    assert steer("resume") == f"{id}  RUNNING\n"
    counts_on(held)
    assert steer("cancel") == f"{id}  CANCELLED\n"
    assert not marked(id)


# Counts to 60 and adds up, with a child that counts beside it and others that come and go.
SIXTY = """
(while :; do echo >>{j}.child; sleep 0.01; done) & child=$!
sum=0
for i in $(seq 60); do sum=$((sum + i)); echo $i >>{j}; /bin/sleep 0.05; done
kill $child
echo $sum
"""


def test_a_shell_that_counts_to_sixty_stands_still_at_twenty(held: Mill, start_api) -> None:
    held.conf("shell", Exec=str(ROOT / "contrib/handlers/shell"), Timeout="1h", MaxAttempts="1")
    held.start()
    client = start_api().client()
    script = SIXTY.format(j=held.journal)
    id = client.post({"name": "shell", "payload": {"script": script}}).json["id"]

    def counted() -> tuple[int, int]:
        return len(held.runs()), pathlib.Path(f"{held.journal}.child").stat().st_size

    eventually(lambda: len(held.runs()) >= 20)
    assert client.patch(f"/api/tasks/{id}/pause").json["status"] == "PAUSED"
    before, family = counted(), marked(id)
    assert 20 <= before[0] < 60 and len(family) >= 2
    time.sleep(1)
    assert (counted(), marked(id)) == (before, family)
    assert client.patch(f"/api/tasks/{id}/resume").json["status"] == "RUNNING"
    task = client.get(f"/api/tasks/{id}?wait=30").json
    assert (task["status"], task["result"], task["attempt"]) == ("COMPLETED", sum(range(61)), 1)
    assert held.runs() == [str(i) for i in range(1, 61)]
    assert task["cpu_usec"] > 0 and not marked(id)


def test_time_that_it_stood_still_is_no_time_that_it_ran(held: Mill) -> None:
    held.handler("t", "until [ -e $J ]; do sleep 0.02; done; exit 65")
    held.start()
    id = held.submit("t")
    held.until(id, "RUNNING")
    for _ in range(2):
        held.db.execute("SELECT pgmill.pause(%s)", [id])
        held.until(id, "PAUSED")
        held.db.execute("SELECT pg_sleep(1)")
        held.db.execute("SELECT pgmill.resume(%s)", [id])
        held.until(id, "RUNNING")
    held.journal.touch()
    task = held.ended(id, "FAILED")
    whole = (task["finished_at"] - task["started_at"]).total_seconds()
    ran = held.db.execute("SELECT run_seconds FROM pgmill.tally WHERE queue = 'default'").fetchone()[0]
    assert 0 < ran < whole - 1.9
    assert task["errors"][0]["run_seconds"] == pytest.approx(ran, abs=0.01)
