# SPDX-License-Identifier: MIT
"""Mode=sql: effects and completion are one transaction."""

import uuid
from collections.abc import Callable

import psycopg
import pytest
from psycopg import sql

from support.cluster import Cluster
from support.process import Process, eventually
from support.proxy import Proxy

from .conftest import Mill

SCHEMA = """
CREATE SCHEMA app;
CREATE TABLE app.charges (task uuid NOT NULL, payload jsonb);
-- Stands still while somebody holds the lock of this number.
CREATE FUNCTION app.step(number int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock_shared(77, number);
END $$;
CREATE FUNCTION app.charge(payload jsonb, task uuid) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
  PERFORM app.step(1);
  INSERT INTO app.charges VALUES (task, payload);
  PERFORM app.step(2);
  RETURN 7;
END $$;
"""
CHARGE = "SELECT app.charge($1, $2)"


@pytest.fixture
def app(mill: Mill) -> Mill:
    mill.db.execute(SCHEMA)
    return mill


def sql_handler(mill: Mill, name: str, statement: str, **keys: str) -> None:
    mill.conf(name, Mode="sql", Sql=statement, **({"Backoff": "100ms"} | keys))


def charges(db: psycopg.Connection) -> int:
    return db.execute("SELECT count(*) FROM app.charges").fetchone()[0]


def waiting(db: psycopg.Connection, event: str) -> int:
    """Backends of sql tasks that wait for this."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgmill-sql@%%' AND wait_event = %s"
    return db.execute(query, [event]).fetchone()[0]


@pytest.mark.parametrize("statement, result", [
    ("SELECT 7", 7), ("SELECT 'x'", "x"), ("SELECT $1", {"a": [1, "ü"]}), ("SELECT $1->'a'->>1 -- why", "ü"),
    ("SELECT NULL::int", None), ("SELECT now() IS NOT NULL", True), ("INSERT INTO app.charges VALUES ($2) RETURNING 1", 1),
    ("VALUES (ARRAY[1,2])", [1, 2]),
])
def test_the_value_is_the_result(app: Mill, statement: str, result: object) -> None:
    sql_handler(app, "t", statement)
    app.start()
    assert app.ended(app.submit("t", '{"a": [1, "ü"]}'))["result"] == result


def test_it_is_given_its_payload_and_its_id(app: Mill) -> None:
    sql_handler(app, "t", CHARGE)
    app.start()
    id = app.submit("t", "9007199254740993")
    assert app.ended(id)["result"] == 7
    assert app.db.execute("SELECT task, payload::text FROM app.charges").fetchall() == [(id, "9007199254740993")]


def test_what_is_done_is_not_held_nor_refused(app: Mill) -> None:
    sql_handler(app, "t", CHARGE)
    app.start("w", "--concurrency", "3")
    ids = [app.submit("t") for _ in range(30)]
    for id in ids:
        app.ended(id)
    eventually(lambda: app.db.execute("SELECT held FROM pgmill.heartbeats").fetchone() == ([],))
    assert charges(app.db) == 30
    assert app.db.execute("SELECT sum(refused), sum(completed) FROM pgmill.tallies").fetchone() == (0, 30)


@pytest.mark.parametrize("statement, error, more", [
    ("SELECT app.charge($1, $2) / 0", "division by zero", {"sqlstate": "22012"}),
    ("SELECT app.nothing($1)", "function app.nothing(jsonb) does not exist", {"sqlstate": "42883"}),
    ("SELECT 1, 2 AS b", "the statement must answer with one column", {"sqlstate": "21000"}),
    ("SELECT app.charge($1, $2) FROM generate_series(1, 2)", "query returned more than one row", {"sqlstate": "P0003"}),
    ("SELECT 1 WHERE false", "query returned no rows", {"sqlstate": "P0002"}),
    ("SELECT repeat('x', 1 << 20)", "result refused: it is over 1048576 bytes", {"sqlstate": "54000"}),
    ("not SQL", "syntax error", {"sqlstate": "42601"}),
])
def test_a_failure_has_no_effects_and_says_why(app: Mill, statement: str, error: str, more: dict) -> None:
    sql_handler(app, "t", statement, MaxAttempts="2")
    sql_handler(app, "fine", "SELECT 1")
    app.start()
    task = app.ended(app.submit("t"), "FAILED")
    assert task["error"].startswith(error) and task["errors"][0].items() >= more.items()
    assert [e["attempt"] for e in task["errors"]] == [1, 2] and charges(app.db) == 0
    app.ended(app.submit("fine"))


def test_its_own_sqlstates_say_never_and_later(app: Mill) -> None:
    app.db.execute("""CREATE SEQUENCE app.calls;
        CREATE FUNCTION app.say(code text) RETURNS int LANGUAGE plpgsql AS $$
        BEGIN
          IF code = 'PM075' AND nextval('app.calls') >= 3 THEN RETURN 1; END IF;
          RAISE EXCEPTION 'no' USING ERRCODE = code;
        END $$""")
    sql_handler(app, "t", "SELECT app.say($1 #>> '{}')")
    app.start()
    assert app.ended(app.submit("t", '"PM065"'), "FAILED")["attempt"] == 1
    assert app.ended(app.submit("t", '"PM075"'))["attempt"] == 1


def test_the_timeout_ends_a_statement(app: Mill) -> None:
    sql_handler(app, "t", "SELECT app.charge($1, $2) + length(pg_sleep(600)::text)", Timeout="300ms", MaxAttempts="1")
    app.start()
    assert app.ended(app.submit("t"), "FAILED", within=10)["error"] == "timed out after 0.3 s"
    assert charges(app.db) == 0


@pytest.mark.parametrize("allowed", [True, False])
def test_cancelling_a_running_one(app: Mill, allowed: bool) -> None:
    """A worker that may not signal the backend closes its session."""
    role = f"app_{uuid.uuid4().hex}"
    app.db.execute(sql.SQL("CREATE ROLE {0} LOGIN SUPERUSER; ").format(sql.Identifier(role)))
    own = psycopg.conninfo.make_conninfo(app.database, user=role)
    sql_handler(app, "t", "SELECT app.charge($1, $2) + length(pg_sleep(600)::text)", **({} if allowed else {"Database": own}))
    url = app.database
    if not allowed:
        worker = f"worker_{uuid.uuid4().hex}"
        app.db.execute(sql.SQL("CREATE ROLE {0} LOGIN; GRANT pgmill_worker TO {0}").format(sql.Identifier(worker)))
        url = psycopg.conninfo.make_conninfo(app.database, user=worker)
    app.start("w", "--database", url)
    id = app.submit("t")
    eventually(lambda: waiting(app.db, "PgSleep"))
    app.db.execute("SELECT pgmill.cancel(%s)", [id])
    assert app.ended(id, "CANCELLED")["error"] == "cancelled"
    eventually(lambda: not waiting(app.db, "PgSleep"))
    sql_handler(app, "t", "SELECT 1")
    assert charges(app.db) == 0


def test_a_role_of_its_own(app: Mill) -> None:
    name = f"app_{uuid.uuid4().hex}"
    role = sql.Identifier(name)
    app.db.execute(sql.SQL("CREATE ROLE {0}; GRANT USAGE ON SCHEMA app TO {0}; GRANT INSERT ON app.charges TO {0}")
                   .format(role))
    sql_handler(app, "t", CHARGE, Role=name)
    sql_handler(app, "look", "SELECT count(*) FROM pgmill.task", Role=name, MaxAttempts="1")
    sql_handler(app, "nobody", "SELECT 1", Role="nobody_at_all", MaxAttempts="1")
    app.start()
    assert app.ended(app.submit("t"))["result"] == 7
    assert app.ended(app.submit("look"), "FAILED")["error"] == "permission denied for schema pgmill"
    assert app.ended(app.submit("nobody"), "FAILED")["error"] == 'role "nobody_at_all" does not exist'
    sessions = "SELECT DISTINCT usename FROM pg_stat_activity WHERE application_name LIKE 'pgmill-sql@%'"
    assert len(app.db.execute(sessions).fetchall()) == 1


def test_a_login_of_its_own_needs_nothing_but_its_group(app: Mill) -> None:
    name = f"app_{uuid.uuid4().hex}"
    role = sql.Identifier(name)
    app.db.execute(sql.SQL("CREATE ROLE {0} LOGIN; GRANT pgmill_sql TO {0}; GRANT USAGE ON SCHEMA app TO {0}; "
                           "GRANT INSERT ON app.charges TO {0}").format(role))
    own = psycopg.conninfo.make_conninfo(app.database, user=name)
    sql_handler(app, "t", CHARGE, Database=own)
    sql_handler(app, "who", "SELECT session_user", Database=own)
    sql_handler(app, "away", "SELECT 1", Database="host=/nonexistent", DeferMax="1", MaxAttempts="1")
    app.start()
    assert app.ended(app.submit("t"))["result"] == 7
    assert app.ended(app.submit("who"))["result"] == name
    id = app.submit("away")  # cannot begin here, which costs no attempt
    why = eventually(lambda: app.db.execute("SELECT resting ->> 'away' FROM pgmill.workers").fetchone()[0])
    assert "/nonexistent" in why and app.until(id, "AVAILABLE")["attempt"] == 0


# ---- exactly once ----


def kill_worker(worker: Process, cluster: Cluster, db: psycopg.Connection) -> None:
    worker.kill()


def kill_backend(worker: Process, cluster: Cluster, db: psycopg.Connection) -> None:
    db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'pgmill-sql@%'")


def kill_server(worker: Process, cluster: Cluster, db: psycopg.Connection) -> None:
    cluster.crash()
    cluster.start()


def hold(url: str, number: int) -> psycopg.Connection:
    holder = psycopg.connect(url, autocommit=True)
    holder.execute("SELECT pg_advisory_lock(77, %s)", [number])
    return holder


def before_the_effect(mill: Mill) -> uuid.UUID:
    mill.holder = hold(mill.database, 1)
    id = mill.submit("t")
    eventually(lambda: waiting(mill.db, "advisory"))
    return id


def after_the_effect(mill: Mill) -> uuid.UUID:
    mill.holder = hold(mill.database, 2)
    id = mill.submit("t")
    eventually(lambda: waiting(mill.db, "advisory"))
    return id


def while_it_completes(mill: Mill) -> uuid.UUID:
    holder = hold(mill.database, 2)
    id = mill.submit("t")
    eventually(lambda: waiting(mill.db, "advisory"))
    mill.holder = psycopg.connect(mill.database)
    mill.holder.execute("SELECT FROM pgmill.tasks WHERE id = %s FOR NO KEY UPDATE", [id])
    holder.close()
    eventually(lambda: waiting(mill.db, "transactionid"))
    return id


def while_it_commits(mill: Mill) -> uuid.UUID:
    """Every commit waits for a standby that never comes; the worker's heartbeat shows that it has begun to."""
    holder = hold(mill.database, 2)
    id = mill.submit("t")
    eventually(lambda: waiting(mill.db, "advisory"))
    mill.db.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    mill.db.execute("SELECT pg_reload_conf()")
    begun = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    eventually(lambda: mill.db.execute(begun).fetchone()[0])
    holder.close()
    eventually(lambda: waiting(mill.db, "SyncRep"))
    return id


def release(url: str) -> psycopg.Connection:
    """Ends what holds the steps up; a connection to look with."""
    db = psycopg.connect(url, autocommit=True)
    db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
               "WHERE application_name = '' AND backend_type = 'client backend' AND pid <> pg_backend_pid()")
    db.execute("ALTER SYSTEM RESET synchronous_standby_names")
    db.execute("SELECT pg_reload_conf()")
    return db


@pytest.mark.long
@pytest.mark.parametrize("step", [before_the_effect, after_the_effect, while_it_completes, while_it_commits])
@pytest.mark.parametrize("kill", [kill_worker, kill_backend, kill_server])
def test_whatever_is_killed_at_whatever_step_the_effect_is_there_once(
        own_cluster: Cluster, run, folder, step, kill) -> None:
    url = own_cluster.fresh()
    db = psycopg.connect(url, autocommit=True)
    db.execute(SCHEMA)
    mill = Mill(run, url, db, folder)
    sql_handler(mill, "t", CHARGE)
    worker = mill.start("one", "--grace", "8s")
    id = step(mill)
    kill(worker, own_cluster, db)
    mill.db = release(url)
    if kill is kill_worker:
        mill.start("two", "--grace", "8s")
    assert mill.ended(id, within=60)["result"] == 7
    assert charges(mill.db) == 1
    mill.ended(mill.submit("t"))
    assert charges(mill.db) == 2


@pytest.mark.long
def test_a_session_that_went_mute_while_it_was_idle_is_made_anew(app: Mill, wires: Callable[[str], Proxy]) -> None:
    wire = wires(app.database)
    sql_handler(app, "t", "SELECT 7", Database=wire.url)
    worker = app.start("w", "--grace", "6s")
    app.submit("t")
    worker.wait_log("Completed")
    wire.mute()
    assert app.ended(app.submit("t"), within=60)["attempt"] == 1
