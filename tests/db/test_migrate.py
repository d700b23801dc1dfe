# SPDX-License-Identifier: MIT
"""pgmill migrate: once, whole, and never backwards."""

import pathlib
import re
import subprocess

import psycopg
import pytest

from support.cluster import Cluster
from support.process import eventually

ROOT = pathlib.Path(__file__).resolve().parents[2]
MIGRATIONS = sorted(path.stem for path in (ROOT / "sql").glob("[0-9]*.sql"))
READY = [f"applied {name}" for name in MIGRATIONS] + [f"schema {len(MIGRATIONS)} is ready"]
NOTHING_TO_DO = [f"schema {len(MIGRATIONS)} was ready already"]


@pytest.fixture
def empty(cluster: Cluster) -> str:
    return cluster.create("template1")


def start(pgmill: str, database: str) -> subprocess.Popen[str]:
    return subprocess.Popen([pgmill, "migrate", "--database", database], text=True, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def migrate(pgmill: str, database: str, expect: int = 0) -> list[str]:
    """The lines it prints, or those it complains with."""
    process = start(pgmill, database)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == expect, errors
    return (output if expect == 0 else errors).splitlines()


def contents(database: str) -> list[str]:
    with psycopg.connect(database) as db:
        return [name for name, in db.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace('pgmill') AND relkind <> 'i'"
            " UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = to_regnamespace('pgmill')"
            " UNION ALL SELECT typname FROM pg_type WHERE typnamespace = to_regnamespace('pgmill') AND typtype IN ('e', 'd')")]


def test_an_empty_database_is_made_ready(pgmill: str, empty: str) -> None:
    assert migrate(pgmill, empty) == READY
    with psycopg.connect(empty) as db:
        db.execute("SELECT pgmill.submit('t')")
        assert db.execute("SELECT status FROM pgmill.task").fetchall() == [("AVAILABLE",)]


def test_a_second_run_has_nothing_to_do(pgmill: str, empty: str) -> None:
    migrate(pgmill, empty)
    before = sorted(contents(empty))
    assert migrate(pgmill, empty) == NOTHING_TO_DO
    assert sorted(contents(empty)) == before


@pytest.mark.long
def test_ten_at_once_do_it_once(pgmill: str, empty: str) -> None:
    processes = [start(pgmill, empty) for _ in range(10)]
    ends = [(process.communicate(timeout=60), process.returncode) for process in processes]
    assert [status for _, status in ends] == [0] * 10, ends
    assert sorted(output.splitlines() for (output, _), _ in ends) == sorted([READY] + 9 * [NOTHING_TO_DO])


def test_a_newer_schema_is_refused_and_left_alone(pgmill: str, database: str) -> None:
    with psycopg.connect(database) as db:
        db.execute("INSERT INTO pgmill.schema (version, name, functions) VALUES (9999, '9999-future', 'x')")
    errors = migrate(pgmill, database, expect=78)
    assert re.search(f"has schema 9999, this executable knows {len(MIGRATIONS)}: use a newer pgmill", errors[-1])
    with psycopg.connect(database) as db:
        assert db.execute("SELECT functions FROM pgmill.schema WHERE version = 9999").fetchone() == ("x",)


def test_functions_of_another_release_are_replaced(pgmill: str, database: str) -> None:
    with psycopg.connect(database) as db:
        db.execute("CREATE OR REPLACE FUNCTION pgmill.wake(queues text[], names text[]) RETURNS void"
                   " LANGUAGE sql AS 'SELECT 1 / 0'")
        db.execute("UPDATE pgmill.schema SET functions = 'of another release'")
    assert migrate(pgmill, database) == ["applied functions", READY[-1]]
    with psycopg.connect(database) as db:
        db.execute("SELECT pgmill.submit('t')")
    assert migrate(pgmill, database) == NOTHING_TO_DO


def test_tasks_survive_new_functions(pgmill: str, database: str) -> None:
    with psycopg.connect(database) as db:
        id = db.execute("SELECT pgmill.submit('t')").fetchone()
        db.execute("UPDATE pgmill.schema SET functions = 'of another release'")
    migrate(pgmill, database)
    with psycopg.connect(database) as db:
        assert db.execute("SELECT id FROM pgmill.task").fetchall() == [id]


def test_a_failing_migration_leaves_nothing(pgmill: str, empty: str) -> None:
    with psycopg.connect(empty) as db:
        db.execute("CREATE SCHEMA pgmill; CREATE TABLE pgmill.watchers ()")  # what the migration makes last
    assert "watchers" in migrate(pgmill, empty, expect=70)[-1]
    assert sorted(contents(empty)) == ["schema", "watchers"]
    with psycopg.connect(empty) as db:
        db.execute("DROP TABLE pgmill.watchers")
    assert migrate(pgmill, empty) == READY


def test_an_interrupted_migration_leaves_nothing(pgmill: str, empty: str) -> None:
    with psycopg.connect(empty) as db:
        db.execute("CREATE FUNCTION public.dawdle() RETURNS event_trigger LANGUAGE plpgsql AS"
                   " 'BEGIN PERFORM pg_sleep(60); END'")
        db.execute("CREATE EVENT TRIGGER dawdle ON ddl_command_end WHEN TAG IN ('CREATE SEQUENCE')"
                   " EXECUTE FUNCTION public.dawdle()")
    process = start(pgmill, empty)
    query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
    with psycopg.connect(empty, autocommit=True) as db:
        backend = eventually(lambda: db.execute(query).fetchone())
        process.kill()
        process.communicate()
        eventually(lambda: not db.execute("SELECT FROM pg_stat_activity WHERE pid = %s", backend).fetchone())
        assert contents(empty) == ["schema"]
        db.execute("DROP EVENT TRIGGER dawdle")
    assert migrate(pgmill, empty) == READY


# ---- beside those who work ----


def versions(db: psycopg.Connection) -> dict[str, str]:
    """Of each function and view: which transaction wrote its row."""
    return dict(db.execute("SELECT oid::regprocedure::text, xmin::text FROM pg_proc WHERE pronamespace = 'pgmill'::regnamespace"
                           " UNION ALL SELECT oid::regclass::text, xmin::text FROM pg_class"
                           " WHERE relnamespace = 'pgmill'::regnamespace AND relkind = 'v'").fetchall())


@pytest.mark.parametrize("change", [
    "CREATE OR REPLACE FUNCTION pgmill.lock_class(kind text) RETURNS int LANGUAGE sql AS 'SELECT 0'",
    "UPDATE pgmill.schema SET functions = regexp_replace(functions, '^[0-9a-f]+', 'x')",
])
def test_what_has_not_changed_is_not_replaced(pgmill: str, database: str, change: str) -> None:
    with psycopg.connect(database, autocommit=True) as db, psycopg.connect(database) as reader:
        reader.execute("TABLE pgmill.task")  # a lock on the views would wait for this
        db.execute(change)
        before = versions(db)
        assert migrate(pgmill, database) == ["applied functions", READY[-1]]
        assert len(before.items() ^ versions(db).items()) == 2  # one, before and after
    assert migrate(pgmill, database) == NOTHING_TO_DO


@pytest.mark.parametrize("drop", ["VIEW pgmill.tally", "FUNCTION pgmill.rfc3339"])
def test_what_was_dropped_comes_back(pgmill: str, database: str, drop: str) -> None:
    with psycopg.connect(database, autocommit=True) as db:
        before = sorted(contents(database))
        db.execute(f"DROP {drop} CASCADE")
        migrate(pgmill, database)
        assert sorted(contents(database)) == before


@pytest.mark.long
def test_nobody_waits_behind_a_migration_that_waits(pgmill: str, database: str) -> None:
    with psycopg.connect(database, application_name="report") as reader, psycopg.connect(database, autocommit=True) as db:
        db.execute("UPDATE pgmill.schema SET functions = 'of another release'")
        reader.execute("TABLE pgmill.task")
        process = start(pgmill, database)
        query = "SELECT true FROM pg_stat_activity WHERE application_name = 'pgmill' AND wait_event_type = 'Lock'"
        eventually(lambda: db.execute(query).fetchone())
        db.execute("SET statement_timeout = '20s'")  # it would wait until the reader ends
        for _ in range(10):
            db.execute("TABLE pgmill.task")
            db.execute("SELECT pgmill.submit('t')")
        assert process.stderr and process.poll() is None
        assert f"process {reader.info.backend_pid} of role postgres (report), idle in transaction" in process.stderr.readline()
        reader.rollback()
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output.splitlines()) == (0, ["applied functions", READY[-1]]), errors
