# SPDX-License-Identifier: MIT
"""What "pgmill doctor" finds: one fault at a time, and the check that must tell of it."""

import json
import os
import pathlib
import re
import socket
import struct
import subprocess
import threading
from collections.abc import Callable

import psycopg
import pytest

from support.cluster import Cluster
from support.process import Process, eventually

HARMLESS = "[Task]\nExec=/bin/cat\n"


class Doctor:
    def __init__(self, pgmill: str, database: str, folder: pathlib.Path) -> None:
        self.pgmill, self.database, self.folder = pgmill, database, folder
        self.tasks = folder / "tasks"
        self.tasks.mkdir()
        (self.tasks / "t.conf").write_text(HARMLESS)
        (self.tasks / "t.conf").chmod(0o644)
        self.configuration = ""
        self.prefix: list[str] = []
        if os.geteuid() == 0:  # where pgmill is installed too: root's doctor would ask the database as its user
            (folder / "passwd").write_text("".join(
                line for line in open("/etc/passwd") if not line.startswith("pgmill:")))
            bind = 'mount --bind "$0" /etc/passwd && exec "$@"'
            self.prefix = ["unshare", "--mount", "sh", "-c", bind, str(folder / "passwd")]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        path = self.folder / "pgmill.conf"
        path.write_text(f"[Worker]\nTasksPath={self.tasks}\n{self.configuration}")
        command = [*self.prefix, self.pgmill, "doctor", f"--config={path}", "--database", self.database, *arguments]
        return subprocess.run(command, capture_output=True, text=True)

    def look(self) -> dict[str, dict[str, str]]:
        """Each check by its name; and the exit status must fit."""
        ended = self.run("--json")
        told = json.loads(ended.stdout)
        problems = [check for check in told["checks"] if check["result"] == "problem"]
        assert (len(problems), bool(problems)) == (told["problems"], ended.returncode == 1), ended.stderr
        return {check["name"]: check for check in told["checks"]}

    def results(self) -> dict[str, str]:
        return {name: check["result"] for name, check in self.look().items()}


@pytest.fixture
def doctor(pgmill: str, database: str, folder: pathlib.Path) -> Doctor:
    return Doctor(pgmill, database, folder)


def test_a_host_in_order(doctor: Doctor, run: Callable[..., Process], db: psycopg.Connection) -> None:
    run("worker", "w", "--database", doctor.database, "--tasks", str(doctor.tasks)).ready()
    db.execute("SELECT pgmill.submit('t')")
    found = doctor.look()
    assert [name for name, check in found.items() if check["result"] == "problem"] == ["durability"]  # a test's cluster
    for name in ("server", "primary", "encoding", "autovacuum", "pooler", "clock", "schema", "workers", "lost workers",
                 "queues", "task names", "permissions", "addresses", "tokens", "handlers"):
        assert found[name]["result"] == "ok", found[name]
    text = doctor.run().stdout.splitlines()
    assert len(text) == len(found) and any(line.startswith("ok       schema: ") for line in text)
    assert any(line.startswith("problem  durability: fsync is off") and " → turn it on" in line for line in text)


def unserved(doctor: Doctor, db: psycopg.Connection) -> None:
    db.execute("SELECT pgmill.submit('t', queue => 'mail')")


def no_schema(doctor: Doctor, db: psycopg.Connection) -> None:
    db.execute("DROP SCHEMA pgmill CASCADE")


def read_only(doctor: Doctor, db: psycopg.Connection) -> None:
    db.execute("DO $$BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on',"
               " current_database()); END$$")


def lost(doctor: Doctor, db: psycopg.Connection) -> None:
    db.execute("INSERT INTO pgmill.workers (id, instance, host, pid, version, grace, queues, names)"
               " VALUES (gen_random_uuid(), 'w', 'h', 1, '0', '30s', '{default}', '{t}')")
    db.execute("INSERT INTO pgmill.heartbeats (worker) SELECT id FROM pgmill.workers")


def broken_handler(doctor: Doctor, db: psycopg.Connection) -> None:
    (doctor.tasks / "u.conf").write_text("[Task]\nExec=relative\n")


def no_program(doctor: Doctor, db: psycopg.Connection) -> None:
    (doctor.tasks / "u.conf").write_text("[Task]\nExec=/nonexistent\n")


def open_handler(doctor: Doctor, db: psycopg.Connection) -> None:
    (doctor.tasks / "t.conf").chmod(0o666)


def foreign_handler(doctor: Doctor, db: psycopg.Connection) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    os.chown(doctor.tasks / "t.conf", 65534, 65534)


def open_program(doctor: Doctor, db: psycopg.Connection) -> None:
    program = doctor.folder / "program"
    program.touch()
    program.chmod(0o777)
    (doctor.tasks / "u.conf").write_text(f"[Task]\nExec={program}\n")


def beyond(doctor: Doctor, db: psycopg.Connection) -> None:
    doctor.configuration = "[API]\nListen=127.0.0.1:8000,0.0.0.0:8000\n"


def no_tokens(doctor: Doctor, db: psycopg.Connection) -> None:
    doctor.configuration = "[API]\nTokens=/nonexistent\n"


def bad_tokens(doctor: Doctor, db: psycopg.Connection) -> None:
    path = doctor.folder / "tokens"
    path.write_text("secret\n")
    path.chmod(0o600)
    doctor.configuration = f"[API]\nTokens={path}\n"


def misspelt_variable(doctor: Doctor, db: psycopg.Connection) -> None:
    (doctor.folder / "worker@w.conf").write_text("PGMILL_QUEUE=mail\n")


def bad_configuration(doctor: Doctor, db: psycopg.Connection) -> None:
    doctor.configuration = "Concurrency=many\n"


def away(doctor: Doctor, db: psycopg.Connection) -> None:
    doctor.database = "host=/nonexistent"


def test_a_worker_that_takes_nothing_serves_nothing(
        doctor: Doctor, run: Callable[..., Process], db: psycopg.Connection) -> None:
    run("worker", "w", "--database", doctor.database, "--tasks", str(doctor.tasks)).ready()
    db.execute("SELECT pgmill.submit('u')")
    db.execute("SELECT pgmill.quiet(id) FROM pgmill.workers")
    found = doctor.look()
    assert (found["workers"]["result"], found["queues"]["result"]) == ("warning", "problem")


@pytest.mark.parametrize("fault, check, result", [
    (unserved, "queues", "problem"), (no_schema, "schema", "problem"), (read_only, "primary", "problem"),
    (lost, "lost workers", "warning"), (broken_handler, "handlers", "problem"), (no_program, "handlers", "problem"),
    (open_handler, "permissions", "problem"), (foreign_handler, "permissions", "problem"),
    (open_program, "handlers", "problem"), (beyond, "addresses", "problem"), (no_tokens, "tokens", "problem"),
    (bad_tokens, "tokens", "problem"), (bad_configuration, "configuration", "problem"),
    (misspelt_variable, "variables", "warning"), (away, "database", "problem"),
], ids=lambda value: getattr(value, "__name__", value))
def test_each_fault_is_found(doctor: Doctor, db: psycopg.Connection, fault: Callable[..., None], check: str,
                             result: str) -> None:
    assert doctor.results()[check] in ("ok", "unseen")
    fault(doctor, db)
    assert doctor.results()[check] == result


def test_a_name_that_no_worker_has_is_found(doctor: Doctor, run: Callable[..., Process], db: psycopg.Connection) -> None:
    run("worker", "w", "--database", doctor.database, "--tasks", str(doctor.tasks)).ready()
    db.execute("SELECT pgmill.submit('unknown')")
    found = doctor.look()["task names"]
    assert found["result"] == "problem" and "unknown (default)" in found["found"]


def test_a_handler_that_rests_is_found(doctor: Doctor, run: Callable[..., Process], db: psycopg.Connection) -> None:
    (doctor.tasks / "u.conf").write_text("[Task]\nExec=/nonexistent\n")
    worker = run("worker", "w", "--database", doctor.database, "--tasks", str(doctor.tasks)).ready()
    assert doctor.look()["resting handlers"]["result"] == "ok"
    db.execute("SELECT pgmill.submit('u')")
    worker.wait_message("resting: u")
    found = eventually(lambda: (check := doctor.look()["resting handlers"])["result"] == "warning" and check)
    assert re.fullmatch(r"u on \S+ \(w\): cannot start /nonexistent: No such file or directory", found["found"])


def test_an_old_transaction_is_found(doctor: Doctor, db: psycopg.Connection) -> None:
    db.execute("CREATE OR REPLACE FUNCTION pgmill.oldest_transaction_seconds() RETURNS float8 LANGUAGE sql"
               " AS 'SELECT 3600::float8'")
    assert doctor.look()["transactions"] == {"name": "transactions", "result": "warning",
                                             "found": "the oldest is 3600 s old",
                                             "remedy": doctor.look()["transactions"]["remedy"]}


def pooled(listener: socket.socket, server: str) -> None:
    """Serves one client as a pooler does: with a process number of its own making."""
    client, _ = listener.accept()
    with client, socket.socket(socket.AF_UNIX) as backend:
        backend.connect(server)
        backend.sendall(client.recv(65536))
        greeting = b""
        while b"K\0\0\0\x0c" not in greeting or not greeting.endswith(b"Z\0\0\0\x05I"):
            greeting += backend.recv(65536)
        at = greeting.index(b"K\0\0\0\x0c") + 5
        client.sendall(greeting[:at] + struct.pack("!I", 4242) + greeting[at + 4:])
        answers = threading.Thread(target=lambda: [client.sendall(data) for data in iter(lambda: backend.recv(65536), b"")])
        answers.start()
        while data := client.recv(65536):
            backend.sendall(data)
        backend.shutdown(socket.SHUT_WR)
        answers.join()


def test_a_database_that_stores_nothing_is_found(doctor: Doctor, db: psycopg.Connection) -> None:
    assert doctor.results()["storing"] == "ok"
    assert db.execute("SELECT count(*) FROM pgmill.tasks").fetchone() == (0,)
    db.execute("""
        CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
          BEGIN RAISE disk_full USING MESSAGE = 'could not extend file: No space left on device'; END $$;
        CREATE TRIGGER full_disk BEFORE INSERT ON pgmill.tasks FOR EACH ROW EXECUTE FUNCTION full_disk()""")
    check = doctor.look()["storing"]
    assert check["result"] == "problem" and "No space left on device" in check["found"]


def test_what_will_fill_the_disk_is_found(own_cluster: Cluster, pgmill: str, folder: pathlib.Path) -> None:
    doctor = Doctor(pgmill, own_cluster.fresh(), folder)
    assert doctor.results()["WAL"] == "ok"
    own_cluster.configure(max_wal_size="32MB")
    own_cluster.admin.execute("SELECT pg_create_physical_replication_slot('forgotten', true)")
    for _ in range(8):
        own_cluster.admin.execute("SELECT pg_logical_emit_message(true, 'test', ''), pg_switch_wal()")
    check = doctor.look()["WAL"]
    assert check["result"] == "warning" and "forgotten" in check["found"]


def test_a_pooler_is_found(doctor: Doctor, cluster: Cluster) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(doctor.folder / ".s.PGSQL.5432"))
        listener.listen()
        pooler = threading.Thread(target=pooled, args=[listener, str(cluster.folder / "run/.s.PGSQL.5432")])
        pooler.start()
        doctor.database = doctor.database.replace(f"{cluster.folder}/run", str(doctor.folder))
        found = doctor.look()["pooler"]
        pooler.join()
    assert found["result"] == "problem" and "own address and port" in found["remedy"]
