# SPDX-License-Identifier: MIT
"""The examples of pgmill-sql(7) do what the page says, as a role that has nothing but what it says."""

import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pytest

from support.node import FOLDER, ROOT, install


def example(title: str) -> str:
    page = (ROOT / "packaging/man/pgmill-sql.7.scd").read_text()
    return re.search(rf"^## {re.escape(title)}\n\n```\n(.*?)^```", page, re.M | re.S)[1]


@pytest.fixture
def shop(db: psycopg.Connection) -> Iterator[dict[str, str]]:
    """The environment of an application whose role owns its table, and is in the group."""
    db.execute("CREATE ROLE app LOGIN; GRANT pgmill_submit TO app;"
               " CREATE TABLE public.orders (item text CHECK (item <> 'nothing')); GRANT INSERT ON public.orders TO app")
    yield os.environ | {"PGHOST": db.info.host, "PGUSER": "app", "PGDATABASE": db.info.dbname, "PGPORT": str(db.info.port)}
    db.execute("DROP OWNED BY app; DROP ROLE app")


@pytest.mark.parametrize("title", ["psql", "Python, psycopg", "Node.js, pg"])
def test_an_order_and_its_task_are_one(shop: dict[str, str], db: psycopg.Connection, folder: pathlib.Path, title: str) -> None:
    text = example(title).replace("dbname=shop", "").replace("{ database: 'shop' }", "")
    commands = {"psql": ["psql", "-qXf"], "Python, psycopg": [sys.executable], "Node.js, pg": ["node"]}
    if title.startswith("Node"):
        install()

    def run(text: str) -> subprocess.CompletedProcess[str]:
        file = (FOLDER if title.startswith("Node") else folder) / f"shop-{os.getpid()}.mjs"
        file.write_text(text)
        try:
            return subprocess.run([*commands[title], str(file)], env=shop, capture_output=True, text=True, timeout=120)
        finally:
            file.unlink()

    done = run(text)
    assert done.returncode == 0, done.stderr
    tasks = "SELECT id::text, queue, payload FROM pgmill.task"
    [(id, queue, payload)] = db.execute(tasks).fetchall()
    assert id in done.stdout and (queue, payload) == ("mail", {"item": "tea"})
    assert db.execute("SELECT item FROM orders").fetchall() == [("tea",)]
    assert "queue" in run(text.replace("mail", "no such label")).stderr  # one that is refused takes the order back
    assert db.execute("SELECT count(*) FROM orders").fetchone() == (1,)
    run(text.replace("('tea')", "('nothing')").replace('["tea"]', '["nothing"]').replace("['tea']", "['nothing']"))
    assert len(db.execute(tasks).fetchall()) == 1


def test_the_groups_of_the_page_are_those_there_are(db: psycopg.Connection) -> None:
    page = (ROOT / "packaging/man/pgmill-sql.7.scd").read_text()
    heads = " ".join(re.findall(r"^(\*pgmill_.*)\n\t", page, re.M))
    there = {name for name, in db.execute("SELECT DISTINCT 'pgmill_' || unnest(string_to_array(groups, ' ')) FROM pgmill.rights()")}
    assert set(re.findall(r"pgmill_\w+", heads)) == there
