# SPDX-License-Identifier: MIT
"""journalctl PGMILL_TASK=… tells a task's story, from its claim to its end."""

import pathlib
import re
import uuid
from collections.abc import Callable

import pytest

from support.process import eventually

from .conftest import Mill
from .test_log import Entry, Journal, journal  # noqa: F401

IDS = dict(re.findall(r'^#define LOG_ID_(\w+) +"([0-9a-f]{32})"',
                      (pathlib.Path(__file__).parents[2] / "src/base/log_id.h").read_text(), re.M))


def until(journal: Journal, id: uuid.UUID, last: str) -> list[tuple[int, str]]:
    """Priority and message of a task's lines, times and waits as N; up to one that begins so."""
    story: list[Entry] = []
    while not story or not story[-1].message.startswith(last):
        entry = journal.read()
        if entry.task and entry.task[0] == str(id):
            story.append(entry)
    assert [entry.id for entry in story] == [None] * (len(story) - 1) + [
        IDS["TASK_FAILED"] if last.startswith("Failed") else None]
    return [(entry.priority, re.sub(r"\d[\d.e-]* s\b", "N s", entry.message)) for entry in story]


def test_of_one_that_completes_on_its_second_attempt(mill: Mill, journal: Journal) -> None:  # noqa: F811
    mill.handler("t", "echo doing it >&2; [ $PGMILL_ATTEMPT = 2 ] || exit 3; echo '\"done\"'", MaxAttempts="2")
    mill.start(before=journal.before)
    assert until(journal, mill.submit("t"), "Completed") == [
        (6, "Attempt 1 of 2 begins"), (6, "doing it"), (4, "Attempt 1 of 2 failed after N s: exit status 3; the next one in N s"),
        (6, "Attempt 2 of 2 begins"), (6, "doing it"), (6, "Completed after N s")]


@pytest.mark.parametrize("script, attempts, story", [
    ("exit 3", "1", "Failed for good in attempt 1 of 1, after N s: exit status 3"),
    ("exit 65", "5", "Failed for good in attempt 1 of 5, after N s: exit status 65"),
])
def test_of_one_that_fails_for_good(mill: Mill, journal: Journal, script: str, attempts: str,  # noqa: F811
                                    story: str) -> None:
    mill.handler("t", script, MaxAttempts=attempts)
    mill.start(before=journal.before)
    assert until(journal, mill.submit("t"), "Failed")[-1] == (3, story)


def test_of_one_that_puts_itself_off(mill: Mill, journal: Journal) -> None:  # noqa: F811
    mill.handler("t", "[ -e $J ] && exit 0; : >$J; exit 75")
    mill.start(before=journal.before)
    assert until(journal, mill.submit("t"), "Completed")[:2] == [
        (6, "Attempt 1 of 3 begins"), (5, "Put off after N s, which does not count: exit status 75; the next one in N s")]


def test_of_one_that_is_paused_resumed_and_cancelled(mill: Mill, journal: Journal) -> None:  # noqa: F811
    mill.handler("t", "sleep 600")
    mill.start(before=journal.before)
    id = mill.submit("t")
    told = []
    for steer, last in ((None, "Attempt"), ("pause", "Paused"), ("resume", "Resumed"), ("cancel", "Cancelled")):
        if steer:
            mill.db.execute(f"SELECT pgmill.{steer}(%s)", [id])
        told += until(journal, id, last)
    assert told == [(6, "Attempt 1 of 3 begins"), (5, "Paused"), (5, "Resumed"),
                    (5, "Cancelling it: somebody asked for that"), (5, "Cancelled after N s")]


def test_of_one_whose_worker_drains(mill: Mill, journal: Journal) -> None:  # noqa: F811
    mill.handler("t", "sleep 600")
    worker = mill.start("w", "--drain", "0", before=journal.before)
    id = mill.submit("t")
    until(journal, id, "Attempt")
    worker.stop()
    assert until(journal, id, "Given back") == [(5, "Given back after N s, which does not count")]


def test_of_an_sql_task(mill: Mill, journal: Journal) -> None:  # noqa: F811
    mill.conf("good", Mode="sql", Sql="SELECT 1")
    mill.conf("bad", Mode="sql", Sql="SELECT 1 / 0", MaxAttempts="1")
    mill.start(before=journal.before)
    assert until(journal, mill.submit("good"), "Completed") == [(6, "Attempt 1 of 3 begins"), (6, "Completed after N s")]
    assert until(journal, mill.submit("bad"), "Failed")[-1] == (
        3, "Failed for good in attempt 1 of 1, after N s: division by zero")


def test_an_end_that_the_fence_refuses_is_told(mill: Mill, journal: Journal) -> None:  # noqa: F811
    mill.handler("t", "echo began >&2; until [ -e $J ]; do sleep 0.05; done")
    mill.start(before=journal.before)
    id = mill.submit("t")
    until(journal, id, "began")
    mill.db.execute("UPDATE pgmill.tasks SET claim_no = claim_no + 1 WHERE id = %s", [id])  # as if another had claimed it
    mill.journal.touch()
    while (entry := journal.read()).id != IDS["FENCED"]:
        assert not entry.message.startswith("Completed")
    assert entry.priority == 4 and entry.task and entry.task[0] == str(id)


@pytest.mark.long
def test_a_flood_of_tasks_does_not_fill_the_journal(mill: Mill, journal: Journal) -> None:  # noqa: F811
    mill.conf("good", Mode="sql", Sql="SELECT 1")
    mill.conf("bad", Mode="sql", Sql="SELECT 1 / 0", MaxAttempts="1")
    mill.db.execute("SELECT pgmill.submit('good') FROM generate_series(1, 2000)")
    mill.db.execute("SELECT pgmill.submit('bad') FROM generate_series(1, 50)")
    mill.start("w", "--concurrency", "8", before=journal.before)
    begun: set[str] = set()
    completed: set[str] = set()
    failed = 0
    while failed < 50:
        entry = journal.read()
        if entry.task and "begins" in entry.message and entry.task[1] == "good":
            begun.add(entry.task[0])
        elif entry.task and entry.message.startswith("Completed"):
            completed.add(entry.task[0])
        failed += entry.id == IDS["TASK_FAILED"]
    assert completed <= begun and len(begun) < 2000


@pytest.mark.parametrize("id, statement", [
    ("SCHEMA_TOO_OLD", "DELETE FROM pgmill.schema"),
    ("SCHEMA_TOO_NEW", "INSERT INTO pgmill.schema (version, name) VALUES (9999, '9999-future')"),
    ("DATABASE_LOST", ""),
])
def test_what_keeps_a_worker_from_its_database_has_an_id(mill: Mill, journal: Journal, id: str,  # noqa: F811
                                                         statement: str) -> None:
    options = [] if statement else ["--database", "host=/nonexistent"]
    mill.db.execute(statement or "SELECT 1")
    worker = mill.start("w", *options, before=journal.before, wait=False)
    while (entry := journal.read()).id is None:
        pass
    assert (entry.id, entry.task) == (IDS[id], None)
    if id == "SCHEMA_TOO_NEW":
        worker.ready()
