# SPDX-License-Identifier: MIT
"""Client verbs of a user whom the database does not let in: they go by the API, and say so when that fails."""

import json
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest


@pytest.fixture
def verb(pgmill: str, folder: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """verb("show", id, port=8000): without a database, with an API at that port."""

    def verb(*arguments: str, port: int | None = None, config: Path = Path("/dev/null"),
             **more: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "PGMILL"))}
        environment |= {"PGHOST": "/nonexistent", "PGMILL_LISTEN": f"127.0.0.1:{port or 1}"} | more
        return subprocess.run([pgmill, *arguments, "--config", str(config)], env=environment, capture_output=True, text=True)

    return verb


def test_a_story_by_the_api(verb: Callable[..., subprocess.CompletedProcess[str]], start_api: Callable[..., Any],
                            db: psycopg.Connection) -> None:
    api = start_api()

    def ok(*arguments: str) -> str:
        ended = verb(*arguments, port=api.port)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.strip()

    id = ok("submit", "t", "--payload", '{"n": 9007199254740993}', "--priority", "high", "--tags", "a,b c", "--timeout", "90s",
            "--max-attempts", "7", "--unique-key", 'a "key"', "--queue", "mail", "--at", "2999-01-01T00:00:00Z")
    row = db.execute("SELECT payload::text, priority::text, tags, timeout, max_attempts, unique_key, queue, status"
                     " FROM pgmill.task WHERE id = %s", [id]).fetchone()
    assert row == ('{"n": 9007199254740993}', "HIGH", ["a", "b c"], 90, 7, 'a "key"', "mail", "SCHEDULED")
    assert json.loads(ok("show", id))["id"] == id
    ids = {ok("submit", "u") for _ in range(3)}
    assert {json.loads(line)["id"] for line in ok("list", "--name", "u").splitlines()} == ids
    assert len(ok("list", "--limit", "2").splitlines()) == 2
    for name, status in ("pause", "PAUSED"), ("resume", "SCHEDULED"), ("cancel", "CANCELLED"), ("retry", "AVAILABLE"):
        assert ok(name, id) == f"{id}  {status}"
    assert json.loads(ok("cancel", id, "--json"))["status"] == "CANCELLED"
    assert [line.split()[0] for line in ok("queues").splitlines()] == ["QUEUE", "default", "mail"]
    assert ok("workers").split()[0] == "WORKER"
    assert "tasks.AVAILABLE" in ok("stats")


def test_more_tasks_than_a_page(verb: Callable[..., subprocess.CompletedProcess[str]], start_api: Callable[..., Any],
                                db: psycopg.Connection) -> None:
    api = start_api()
    db.execute("SELECT pgmill.submit('t') FROM generate_series(1, 250)")
    for limit in 120, 300:
        lines = verb("list", "--limit", str(limit), port=api.port).stdout.splitlines()
        assert len({json.loads(line)["id"] for line in lines}) == min(limit, 250)


def test_more_queues_than_a_page(verb: Callable[..., subprocess.CompletedProcess[str]], start_api: Callable[..., Any],
                                 db: psycopg.Connection) -> None:
    api = start_api()
    db.execute("SELECT pgmill.submit('t', queue => 'q' || n) FROM generate_series(1, 1001) n")
    lines = verb("queues", port=api.port).stdout.splitlines()
    assert {line.split()[0] for line in lines} == {"QUEUE", *(f"q{n}" for n in range(1, 1002))}


@pytest.mark.parametrize("arguments, status, complaint", [
    (["show", "01939b5e-0000-7000-8000-000000000000"], 66, "no task"),
    (["cancel", "01939b5e-0000-7000-8000-000000000000"], 66, "no task"),
    (["submit", "t", "--unique-key", "k"], 75, "unique_key"),
    (["pause", "ENDED"], 65, "CANCELLED"),
])
def test_what_the_api_refuses(verb: Callable[..., subprocess.CompletedProcess[str]], start_api: Callable[..., Any],
                              db: psycopg.Connection, arguments: list[str], status: int, complaint: str) -> None:
    api = start_api()
    db.execute("SELECT pgmill.submit('t', unique_key => 'k')")
    ended_id = db.execute("SELECT pgmill.submit('t')").fetchone()[0]
    db.execute("SELECT pgmill.cancel(%s)", [ended_id])
    ended = verb(*[str(ended_id) if word == "ENDED" else word for word in arguments], port=api.port)
    assert (ended.returncode, complaint in ended.stderr) == (status, True), ended.stderr
    assert f"by the API at 127.0.0.1:{api.port}" in ended.stderr and "/nonexistent" in ended.stderr


def test_each_way_that_was_tried_is_named(verb: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    ended = verb("list")
    assert ended.returncode == 69
    for way in "the database: ", "/nonexistent", "127.0.0.1:1: Connection refused":
        assert way in ended.stderr


@pytest.mark.long
def test_an_api_that_does_not_answer_is_told_from_one_that_is_not_there(
        verb: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        ended = verb("list", port=mute.getsockname()[1])
    assert ended.returncode == 69 and "no answer came within 30 s" in ended.stderr, ended.stderr


def test_who_names_a_database_gets_no_other(verb: Callable[..., subprocess.CompletedProcess[str]],
                                            start_api: Callable[..., Any]) -> None:
    api = start_api()
    for ended in (verb("list", "--database", "host=/nonexistent", port=api.port),
                  verb("list", port=api.port, PGMILL_DATABASE="host=/nonexistent")):
        assert ended.returncode == 69 and "connect to the database" in ended.stderr


def test_a_role_without_rights_goes_by_the_api(verb: Callable[..., subprocess.CompletedProcess[str]], folder: Path,
                                               start_api: Callable[..., Any], db: psycopg.Connection) -> None:
    """Any role may connect to a database as PostgreSQL makes it."""
    api = start_api()
    db.execute("CREATE ROLE passer_by LOGIN")
    config = folder / "pgmill.conf"
    config.write_text(f"[Database]\nUrl=host={db.info.host} dbname={db.info.dbname} user=passer_by\n")
    assert verb("submit", "t", port=api.port, config=config).returncode == 0
    assert db.execute("SELECT count(*) FROM pgmill.task").fetchone() == (1,)
    assert "the role passer_by has no right" in verb("submit", "t", config=config).stderr
    db.execute("GRANT pgmill_submit TO passer_by")
    assert verb("submit", "t", config=config).returncode == 0
    db.execute("DROP ROLE passer_by")


@pytest.mark.skipif(os.geteuid() != 0, reason="another user needs root")
def test_settings_that_a_user_may_not_read_are_left_out(verb: Callable[..., subprocess.CompletedProcess[str]], pgmill: str,
                                                        folder: Path, start_api: Callable[..., Any]) -> None:
    """In a mount namespace with a configuration file of its own."""
    api = start_api()
    folder.chmod(0o755)
    (folder / "etc").mkdir()
    (folder / "etc/pgmill.conf").write_text("[Database]\nUrl=host=/nonexistent\n")
    (folder / "etc/pgmill.conf").chmod(0o600)
    script = f'''mount -t tmpfs -o mode=755 none /etc/pgmill 2>/dev/null ||
        {{ mkdir -p {folder}/up {folder}/work && mount -t overlay -o lowerdir=/etc,upperdir={folder}/up,workdir={folder}/work none /etc &&
        mkdir -p /etc/pgmill; }}
        cp -p {folder}/etc/pgmill.conf /etc/pgmill/ && exec setpriv --reuid=nobody --regid=nogroup --clear-groups "$@"'''

    def run(*arguments: str, port: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["unshare", "--mount", "sh", "-c", script, "sh", pgmill, *arguments], text=True,
                              env=os.environ | {"PGMILL_LISTEN": f"127.0.0.1:{port}"}, capture_output=True)

    ended = run("submit", "t", port=api.port)
    assert ended.returncode == 0, ended.stderr
    assert "this user may not read /etc/pgmill/pgmill.conf" in run("submit", "t", port=1).stderr
    refused = run("migrate", port=1)
    assert refused.returncode == 77 and "name the database by --database" in refused.stderr
