# SPDX-License-Identifier: MIT
"""What a worker makes of a connection that goes bad, and what it says of it."""

import socket
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from support.process import Process, eventually
from support.proxy import Proxy

from .conftest import Mill


@pytest.mark.long
def test_a_connection_that_went_mute_is_made_anew(
        database: str, run: Callable[..., Process], db: psycopg.Connection, folder: Path,
        wires: Callable[[str], Proxy]) -> None:
    """What runs does not notice: there is a new one before two thirds of the grace period."""
    wire = wires(database)
    mill = Mill(run, wire.url, db, folder)
    mill.handler("t", "echo start >>$J; while [ ! -e $J.end ]; do sleep 0.1; done")
    worker, id = mill.start("w", "--grace", "15s"), mill.submit("t")
    eventually(mill.runs)
    wire.mute()
    worker.wait_log("no answer of the server within 5s", within=60)
    (folder / "journal.end").touch()
    assert mill.ended(id, within=60)["attempt"] == 1
    assert mill.runs() == ["start"]
    mill.ended(mill.submit("t"))


@pytest.mark.long
def test_a_host_that_accepts_and_says_nothing_does_not_hide_the_next(
        database: str, run: Callable[..., Process], db: psycopg.Connection, folder: Path,
        wires: Callable[[str], Proxy]) -> None:
    """As a proxy does that has no server behind it."""
    wire = wires(database)
    port = conninfo_to_dict(wire.url)["port"]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hosts = make_conninfo(wire.url, host="127.0.0.1,127.0.0.1", port=f"{silent.getsockname()[1]},{port}")
        mill = Mill(run, hosts, db, folder)
        mill.handler("t", "true")
        mill.start("w", "--grace", "6s")
        mill.ended(mill.submit("t"), within=60)


def test_each_reason_for_a_lost_database_is_logged_once_and_on_one_line(mill: Mill) -> None:
    mill.handler("t", "true")
    worker = mill.start()
    name = mill.db.info.dbname
    with psycopg.connect(mill.database, dbname="postgres", autocommit=True) as other:
        other.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        mill.db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ~ 'pgmill-worker'")
        worker.wait_log("not currently accepting connections")
        other.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    eventually(lambda: mill.db.execute("SELECT count(*) FROM pgmill.sleepers").fetchone() == (1,))
    why = [line.partition("Waiting for the database: ")[2] for line in worker.log.splitlines() if "Waiting" in line]
    assert why[0] == "terminating connection due to administrator command"
    assert len(why) == 2 and "not currently accepting connections" in why[1]


def test_a_warning_about_something_else_stops_nothing(mill: Mill) -> None:
    """As PostgreSQL warns with each commit when transaction ids run low."""
    mill.db.execute("""CREATE FUNCTION pgmill.warn() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE WARNING E'%', E'they run low,\n\tvacuum soon'; RETURN NULL; END $$;
        CREATE TRIGGER warn AFTER UPDATE ON pgmill.heartbeats EXECUTE FUNCTION pgmill.warn()""")
    mill.handler("t", "echo >>$J")
    worker = mill.start()
    for id in [mill.submit("t") for _ in range(3)]:
        assert mill.ended(id)["attempt"] == 1
    assert worker.log.count("The database warns: they run low, vacuum soon") == 1
