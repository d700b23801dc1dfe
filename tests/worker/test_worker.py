# SPDX-License-Identifier: MIT
"""Order, waking, draining, dying, and the database going away."""

import pathlib
import signal
import statistics
import subprocess
import time

import psycopg
import pytest

from support.cluster import Cluster
from support.process import eventually

from .conftest import Mill, alive

RUN = 'echo "start $PGMILL_TASK $$" >>$J; {} ; echo "end $PGMILL_TASK $$" >>$J'


def locks(db: psycopg.Connection) -> int:
    query = ("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' "
             "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())")
    return db.execute(query).fetchone()[0]


def test_by_priority_then_by_time(mill: Mill) -> None:
    mill.handler("t", "cat >>$J; echo >>$J")
    order = [(p, n) for n in range(3) for p in ("LOW", "CRITICAL", "MEDIUM", "HIGH")]
    ids = [mill.submit("t", f'"{p}{n}"', priority=p) for p, n in order]
    mill.start("w", "--concurrency", "1")
    for id in ids:
        mill.ended(id)
    assert mill.runs() == [f'"{p}{n}"' for p in ("CRITICAL", "HIGH", "MEDIUM", "LOW") for n in range(3)]


def test_never_before_its_time_and_soon_after(mill: Mill) -> None:
    mill.handler("t", "true")
    mill.start()
    due = mill.db.execute("SELECT clock_timestamp() + interval '700 ms'").fetchone()[0]
    task = mill.ended(mill.submit("t", scheduled_at=due))
    assert 0 <= (task["started_at"] - due).total_seconds() < 5


def test_a_paused_task_waits_for_its_resumption(mill: Mill) -> None:
    mill.handler("t", "true")
    paused, other = mill.submit("t"), mill.submit("t")
    mill.db.execute("SELECT pgmill.pause(%s)", [paused])
    mill.start()
    mill.ended(other)
    assert mill.show(paused)["status"] == "PAUSED"
    mill.db.execute("SELECT pgmill.resume(%s)", [paused])
    mill.ended(paused)


def test_a_sleeping_worker_is_woken_not_found_by_its_poll(mill: Mill) -> None:
    mill.handler("t", "true")
    mill.start()
    waits = []
    for _ in range(9):
        eventually(lambda: mill.db.execute("SELECT count(*) FROM pgmill.sleepers").fetchone()[0] == 1)
        task = mill.ended(mill.submit("t"))
        waits.append((task["started_at"] - task["created_at"]).total_seconds())
    assert statistics.median(waits) < 0.3, waits  # the poll is a second


def test_a_task_without_a_handler_here_is_left_alone(mill: Mill) -> None:
    mill.handler("t", "true")
    foreign = mill.submit("elsewhere")
    mill.start()
    mill.ended(mill.submit("t"))
    assert mill.show(foreign)["status"] == "AVAILABLE" and mill.show(foreign)["attempt"] == 0


def test_a_row_in_somebodys_transaction_is_passed_and_found_later(mill: Mill, connect) -> None:
    mill.handler("t", "true")
    held, other = mill.submit("t"), mill.submit("t")
    holder = connect(autocommit=False)
    holder.execute("SELECT FROM pgmill.tasks WHERE id = %s FOR UPDATE", [held])
    mill.start()
    mill.ended(other)
    holder.rollback()
    mill.ended(held)


def test_no_more_at_once_than_there_are_slots_and_each_task_once(mill: Mill) -> None:
    mill.handler("t", RUN.format("sleep 0.$(($$ % 3))"))
    ids = [mill.submit("t") for _ in range(60)]
    for name in ("one", "two"):
        mill.start(name, "--concurrency", "3")
    for id in ids:
        mill.ended(id)
    now = most = 0
    for line in mill.runs():
        now += 1 if line.startswith("start") else -1
        most = max(most, now)
    assert 3 < most <= 6
    assert sorted(line.split()[1] for line in mill.runs() if line.startswith("start")) == sorted(map(str, ids))


def test_a_task_that_somebody_holds_ends_later_and_delays_nobody(mill: Mill, connect) -> None:
    mill.handler("t", RUN.format("sleep 0.3"))
    mill.start()
    held = mill.submit("t")
    eventually(mill.runs)
    holder = connect(autocommit=False)
    holder.execute("SELECT FROM pgmill.tasks WHERE id = %s FOR UPDATE", [held])
    for _ in range(5):
        mill.ended(mill.submit("t"))
    assert mill.show(held)["status"] == "RUNNING"
    holder.rollback()
    assert mill.ended(held)["attempt"] == 1
    assert [line.split()[0] for line in mill.runs() if str(held) in line] == ["start", "end"]


def test_sigterm_drains(mill: Mill) -> None:
    mill.handler("t", RUN.format("sleep 1"))
    worker = mill.start("w", "--concurrency", "2")
    ids = [mill.submit("t") for _ in range(5)]
    eventually(lambda: len(mill.runs()) == 2)
    assert worker.stop() == 0
    worker.wait_message("STOPPING=1")
    assert sorted(mill.show(id)["status"] for id in ids) == ["AVAILABLE"] * 3 + ["COMPLETED"] * 2
    assert all(mill.show(id)["attempt"] == 0 for id in ids if mill.show(id)["status"] == "AVAILABLE")
    assert locks(mill.db) == 0
    assert mill.db.execute("SELECT count(*) FROM pgmill.heartbeats").fetchone() == (0,)


def test_a_worker_that_drains_is_shown_as_that(mill: Mill) -> None:
    mill.handler("t", RUN.format("sleep 1000"))
    worker = mill.start("w", "--drain", "1h")
    id = mill.submit("t")
    eventually(mill.runs)
    worker.signal(signal.SIGTERM)
    status = "SELECT status FROM pgmill.worker_states"
    eventually(lambda: mill.db.execute(status).fetchone() == ("DRAINING",))
    assert mill.db.execute("SELECT running, workers FROM pgmill.queue_states('{default}')").fetchone() == (1, 0)
    mill.db.execute("SELECT pgmill.cancel(%s)", [id])
    assert worker.wait() == 0


@pytest.mark.parametrize("hurry", ["deadline", "second signal"])
def test_a_drain_ends_and_gives_back_what_does_not(mill: Mill, hurry: str) -> None:
    mill.handler("t", RUN.format("sleep 1000"))
    worker = mill.start("w", "--drain", "300ms" if hurry == "deadline" else "1h")
    id = mill.submit("t")
    eventually(mill.runs)
    worker.signal(signal.SIGTERM)
    if hurry == "second signal":
        worker.wait_message("STOPPING=1")
        worker.wait_log("Draining")
        worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    task = mill.show(id)
    assert (task["status"], task["attempt"], task["errors"]) == ("AVAILABLE", 0, [])
    assert not alive(mill.runs()[0].split()[2])


def test_a_killed_workers_tasks_run_again_and_never_twice_at_once(mill: Mill) -> None:
    mill.handler("t", RUN.format("sleep 0.3"))
    victim = mill.start("victim", "--grace", "3s")
    mill.start("heir", "--grace", "3s")
    ids = [mill.submit("t") for _ in range(20)]
    eventually(lambda: len(mill.runs()) > 6)
    victim.kill()
    tasks = [mill.ended(id, within=40) for id in ids]
    blamed = [task for task in tasks if task["attempt"] == 2]
    assert 1 <= len(blamed) <= 4
    assert all(task["errors"][0]["error"] == "worker victim was lost while the task ran" for task in blamed)
    assert mill.overlaps() == 0
    assert eventually(lambda: mill.db.execute("SELECT count(*) FROM pgmill.heartbeats").fetchone() == (1,))


def test_a_worker_silent_for_less_than_its_grace_period_keeps_its_tasks(mill: Mill) -> None:
    mill.handler("t", RUN.format("sleep 1"))
    silent = mill.start("silent", "--grace", "2min")
    id = mill.submit("t")
    eventually(mill.runs)
    silent.signal(signal.SIGSTOP)
    mill.db.execute("SELECT pg_terminate_backend(backend_pid) FROM pgmill.workers")
    mill.start("other")
    look = ("SELECT query_start FROM pg_stat_activity "
            "WHERE application_name = 'pgmill-worker@other' AND query ~ 'suspects'")
    looks: set = set()
    eventually(lambda: looks.update(mill.db.execute(look)) or len(looks) >= 3, within=30)
    silent.signal(signal.SIGCONT)
    task = mill.ended(id)
    assert task["attempt"] == 1 and len(mill.runs()) == 2


def test_a_handler_dies_with_its_worker(mill: Mill) -> None:
    mill.handler("t", "echo $$ >>$J; exec sleep 1000")
    worker = mill.start()
    mill.submit("t")
    eventually(mill.runs)
    worker.kill()
    eventually(lambda: not alive(mill.runs()[0]), within=5)


@pytest.mark.long
def test_a_task_that_kills_its_workers_ends_failed(mill: Mill) -> None:
    mill.handler("t", "kill -9 $PPID; sleep 10", MaxAttempts="2")
    id = mill.submit("t")
    mill.start("a", "--grace", "3s", wait=False).wait()
    mill.start("b", "--grace", "3s", wait=False).wait(40)
    mill.start("c", "--grace", "3s")
    task = mill.ended(id, "FAILED", within=40)
    assert len(task["errors"]) == 2


def test_a_stopped_worker_is_given_up_and_its_late_word_refused(mill: Mill) -> None:
    mill.handler("t", RUN.format("sleep 1"), MaxAttempts="5")
    sleeper = mill.start("sleeper", "--grace", "3s")
    id = mill.submit("t")
    eventually(mill.runs)
    sleeper.signal(signal.SIGSTOP)
    # Its session ends as that of a vanished host would: the server notices by itself.
    mill.db.execute("SELECT pg_terminate_backend(backend_pid) FROM pgmill.workers")
    mill.start("heir", "--grace", "3s")
    task = mill.ended(id, within=40)
    sleeper.signal(signal.SIGCONT)
    sleeper.wait_log("given up as dead", within=30)
    mill.ended(mill.submit("t"))
    assert mill.show(id) == task
    assert mill.overlaps() == 0


def test_a_lost_session_costs_no_running_task(mill: Mill) -> None:
    mill.handler("t", RUN.format("sleep 1.5"))
    worker = mill.start()
    id = mill.submit("t")
    eventually(mill.runs)
    mill.db.execute("SELECT pg_terminate_backend(backend_pid) FROM pgmill.workers")
    worker.wait_log("Waiting for the database")
    task = mill.ended(id)
    assert task["attempt"] == 1 and len(mill.runs()) == 2
    worker.wait_log("Ready as worker w")


@pytest.mark.long
@pytest.mark.parametrize("crash", [False, True])
def test_a_restart_of_the_database_loses_nothing(
        own_cluster: Cluster, run, folder, crash: bool) -> None:
    url = own_cluster.fresh()
    db = psycopg.connect(url, autocommit=True)
    mill = Mill(run, url, db, folder)
    mill.handler("t", RUN.format("sleep 0.2"))
    for name in ("one", "two"):
        mill.start(name, "--concurrency", "3")
    ids = [mill.submit("t") for _ in range(60)]
    for _ in range(2):
        so_far = len(mill.runs())
        eventually(lambda: len(mill.runs()) > so_far + 12)
        own_cluster.crash() if crash else own_cluster.stop()
        own_cluster.start()
    db.close()
    mill.db = psycopg.connect(url, autocommit=True)
    tasks = [mill.ended(id, within=60) for id in ids]
    assert [(task["attempt"], task["errors"]) for task in tasks if task["attempt"] != 1] == []
    assert mill.overlaps() == 0
    mill.db.close()


@pytest.mark.long
def test_a_worker_cut_off_for_long_ends_its_tasks_in_time(own_cluster: Cluster, run, folder) -> None:
    url = own_cluster.fresh()
    db = psycopg.connect(url, autocommit=True)
    mill = Mill(run, url, db, folder)
    mill.handler("t", "echo start $PGMILL_TASK $$ >>$J; sleep 1000")
    worker = mill.start("w", "--grace", "3s")
    id = mill.submit("t")
    eventually(mill.runs)
    db.close()
    own_cluster.stop()
    lost = time.monotonic()
    eventually(lambda: not alive(mill.runs()[0].split()[2]), within=10)
    assert time.monotonic() - lost < 3
    worker.wait_log("ending 1 task")
    own_cluster.start()
    mill.db = psycopg.connect(url, autocommit=True)
    eventually(lambda: len(mill.runs()) == 2)
    assert mill.show(id)["attempt"] == 1  # its worker's doing, so it is not counted
    mill.db.close()


@pytest.mark.long
def test_without_the_database_it_leaves_when_its_time_is_over(own_cluster: Cluster, run, folder) -> None:
    url = own_cluster.fresh()
    db = psycopg.connect(url, autocommit=True)
    mill = Mill(run, url, db, folder)
    mill.handler("t", "echo start $PGMILL_TASK $$ >>$J; sleep 1000")
    worker = mill.start("w", "--drain", "0s")
    mill.submit("t")
    eventually(mill.runs)
    db.close()
    own_cluster.stop()
    worker.wait_log("Waiting for the database")
    assert worker.stop() == 75
    assert "Leaving with 1 task not given back" in worker.log
    assert not alive(mill.runs()[0].split()[2])


def test_without_a_database_one_that_runs_nothing_leaves_soon(own_cluster: Cluster, run, folder) -> None:
    """However long its programs might have run."""
    worker = Mill(run, own_cluster.fresh(), None, folder).start("w", "--drain", "infinity")
    own_cluster.stop()
    worker.wait_log("Waiting for the database")
    assert worker.stop() == 0
    assert "Leaving while the database is away" in worker.log


@pytest.mark.long
def test_without_a_database_it_is_ready_after_a_while(run, folder) -> None:
    worker = Mill(run, "host=/nonexistent", None, folder).start(wait=False)
    worker.wait_message("READY=1", within=60)
    worker.wait_message("STATUS=waiting for the database")


def test_it_waits_for_the_database_and_says_so(own_cluster: Cluster, run, folder) -> None:
    url = own_cluster.fresh()
    own_cluster.stop()
    mill = Mill(run, url, None, folder)
    worker = mill.start(wait=False)
    worker.wait_message("STATUS=waiting for the database")
    assert not any("READY" in message for message in worker.messages)
    own_cluster.start()
    worker.ready()


def test_without_a_schema_it_waits_for_migrate(cluster: Cluster, run, folder, pgmill: str) -> None:
    url = cluster.create("template0")
    worker = Mill(run, url, None, folder).start(wait=False)
    worker.wait_message('run "pgmill migrate"')
    assert not any("READY" in message for message in worker.messages)
    subprocess.run([pgmill, "migrate", "--database", url], check=True, stdout=subprocess.DEVNULL)
    worker.ready()


def test_it_tells_its_manager_how_it_is(mill: Mill) -> None:
    mill.handler("t", "sleep 2.5")
    worker = mill.start(watchdog=0.4)
    worker.wait_message("WATCHDOG=1")
    mill.submit("t")
    worker.wait_message("STATUS=1 of 4 slots busy")
    worker.wait_message("STATUS=0 of 4 slots busy")


@pytest.mark.parametrize("arguments, status, complaint", [
    ([], 64, "takes one argument"),
    (["a", "b"], 64, "takes one argument"),
    (["a b"], 64, "is no name"),
    (["a", "--queues", "no/queue"], 64, "is no name"),
    (["a", "--concurrency", "0"], 64, "--concurrency"),
    (["a", "--grace", "soon"], 64, "--grace"),
    (["a", "--colour"], 64, "no such option"),
    (["a", "--database", "no such thing"], 78, "cannot be read"),
    (["a", "--config", "/nonexistent"], 78, "/nonexistent"),
])
def test_bad_settings_are_named(run, arguments: list[str], status: int, complaint: str) -> None:
    worker = run("worker", *arguments)
    assert worker.wait() == status
    assert complaint in worker.log


@pytest.mark.parametrize("text, complaint", [
    ("what is this\n", "pgmill.conf:1: neither"),
    ("[Worker]\nGrace=soon\n", "pgmill.conf:2: Grace=:"),
    ("[Worker]\nConcurrency=1001\n", "pgmill.conf:2: Concurrency=:"),
])
def test_a_bad_configuration_file_is_named_with_its_line(
        run, folder: pathlib.Path, text: str, complaint: str) -> None:
    file = folder / "pgmill.conf"
    file.write_text(text)
    worker = run("worker", "w", "--config", str(file))
    assert worker.wait() == 78
    assert complaint in worker.log


def test_a_credential_names_the_database(run, database: str, folder: pathlib.Path) -> None:
    """Unless the file does."""
    (folder / "pgmill.database").write_text(database + "\n")
    (folder / "pgmill.conf").write_text("")
    worker = run("worker", "w", "--config", str(folder / "pgmill.conf"), environment={"CREDENTIALS_DIRECTORY": str(folder)})
    worker.ready()
    (folder / "pgmill.conf").write_text("[Database]\nUrl=nonsense of the file\n")
    worker = run("worker", "w", "--config", str(folder / "pgmill.conf"), environment={"CREDENTIALS_DIRECTORY": str(folder)})
    assert worker.wait() == 78 and "nonsense" in worker.log


@pytest.mark.parametrize("text", ["", "dbname=a\ndbname=b\n", "dbname=a\0dbname=b"])
def test_a_credential_that_is_not_one_line_is_named(run, folder: pathlib.Path, text: str) -> None:
    (folder / "pgmill.database").write_text(text)
    worker = run("worker", "w", environment={"CREDENTIALS_DIRECTORY": str(folder)})
    assert worker.wait() == 78 and f"{folder}/pgmill.database: it must be one line" in worker.log


def test_a_bad_variable_is_named(run) -> None:
    worker = run("worker", "w", environment={"PGMILL_GRACE": "1s"})
    assert worker.wait() == 78
    assert "PGMILL_GRACE" in worker.log


def test_a_variable_that_does_nothing_is_named(mill: Mill) -> None:
    """The service manager reads that file, and says nothing of it."""
    path = mill.folder / "worker@w.conf"
    path.write_text("# of this worker\nPGMILL_QUEUES=a,\\\nb\nTZ=UTC\n; PGMILL_OLD=1\n PGMILL_QUEUE=mail\nPGMILL_LISTEN=0.0.0.0:80\n"
                    "Queues=mail\nhttp_proxy=x\n")
    (mill.folder / "pgmill.conf").write_text("")
    worker = mill.start("w", "--config", str(mill.folder / "pgmill.conf"))
    said = [line.split(": ", 2)[2] for line in worker.log.splitlines() if "ignored" in line]
    assert said == [f"{path}:6: PGMILL_QUEUE= is no variable of pgmill; ignored",
                    f"{path}:7: PGMILL_LISTEN= is no setting of a worker; ignored",
                    f"{path}:8: Queues= is not how a variable is written: see pgmill.conf(5); ignored"]


def test_what_libpq_says_in_several_lines_is_one(mill: Mill) -> None:
    worker = mill.run("worker", "w", "--database", "host=127.0.0.1 port=1", "--tasks", str(mill.tasks))
    worker.wait_log("Waiting for the database")
    assert "Connection refused Is the server running" in worker.log


@pytest.mark.parametrize("tasks", [1, 2])
def test_one_task_is_no_tasks(mill: Mill, tasks: int) -> None:
    mill.handler("t", "echo start $PGMILL_TASK $$ >>$J; sleep 1000")
    worker = mill.start()
    for _ in range(tasks):
        mill.submit("t")
    eventually(lambda: len(mill.runs()) == tasks)
    worker.signal(signal.SIGTERM)
    worker.wait_log(f"Draining, with {tasks} task{'s' if tasks > 1 else ''} running")
