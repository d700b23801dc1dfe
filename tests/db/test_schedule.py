# SPDX-License-Identifier: MIT
"""A tick of a schedule is submitted once, whoever comes how often and how late."""

import concurrent.futures
import os
import subprocess
import uuid

import psycopg

from .conftest import Mill


def tick(db: psycopg.Connection, at: str, schedule: str = "s", unique_key: str | None = None, known: str = "last") -> str:
    """known: what whoever asks has seen as the last one; unless given, it has just looked."""
    if known == "last":
        known = db.execute("SELECT max(last_tick)::text FROM pgmill.schedules WHERE name = %s", [schedule]).fetchone()[0]
    row = [[uuid.uuid4()], ["default"], ["t"], ["null"], ["MEDIUM"], [None], [None], [None], ["{}"], [unique_key]]
    types = "uuid text text text pgmill.priority timestamptz int float8 text text".split()
    lists = ", ".join(f"%s::{type}[]" for type in types)
    return db.execute(f"SELECT pgmill.submit_tick(%s, %s, %s, {lists})", [schedule, at, known, *row]).fetchone()[0]


def count(mill: Mill) -> int:
    return mill.value("SELECT count(*) FROM pgmill.tasks")


def test_ticks_count_upwards(mill: Mill) -> None:
    ticks = ["08:00", "08:00", "09:00", "08:30", "09:00+00", "09:00:01"]
    assert [tick(mill.db, f"2027-01-31 {at}") for at in ticks] == [
        "stored", "passed", "stored", "passed", "passed", "stored"]
    assert tick(mill.db, "2027-01-31 08:00", schedule="another") == "stored"
    assert count(mill) == 4


def test_one_that_does_not_know_the_last_one_looks_again(mill: Mill) -> None:
    assert tick(mill.db, "2027-01-31 08:00") == "stored"
    assert [tick(mill.db, "2027-01-31 09:00", known=known) for known in (None, "2027-01-31 07:00", "2027-01-31 08:00")] == [
        "moved", "moved", "stored"]
    assert count(mill) == 2


def test_many_hosts_at_once_submit_one(mill: Mill) -> None:
    hosts = [mill.connect() for _ in range(8)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for hour in range(10, 20):
            said = list(pool.map(lambda host: tick(host, f"2027-01-31 {hour}:00"), hosts))
            assert said.count("stored") == 1 and set(said) <= {"stored", "passed", "moved"}
    assert count(mill) == 10


def test_a_tick_is_skipped_while_the_last_one_is_unfinished(mill: Mill) -> None:
    verdicts = [tick(mill.db, f"2027-01-31 {hour}:00", unique_key="k") for hour in (10, 11, 11)]
    assert verdicts == ["stored", "taken", "passed"] and count(mill) == 1


def test_a_tick_that_cannot_be_stored_has_not_passed(mill: Mill) -> None:
    mill.db.execute("ALTER TABLE pgmill.tasks ADD CONSTRAINT never CHECK (name <> 't')")
    try:
        tick(mill.db, "2027-01-31 08:00")
        raise AssertionError
    except psycopg.errors.CheckViolation:
        pass
    mill.db.execute("ALTER TABLE pgmill.tasks DROP CONSTRAINT never")
    assert tick(mill.db, "2027-01-31 08:00") == "stored"


def test_the_verb(mill: Mill, pgmill: str, database: str) -> None:
    command = [pgmill, "submit", "--database", database, "t", "--schedule=s"]
    by_hand = {key: value for key, value in os.environ.items() if key != "TRIGGER_UNIT"}
    for _ in range(2):
        subprocess.run(command, env=by_hand, check=True)
    assert count(mill) == 2
    by_timer = by_hand | {"TRIGGER_UNIT": "s.timer", "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent"}
    refused = subprocess.run(command, env=by_timer, capture_output=True, text=True)
    assert refused.returncode == os.EX_UNAVAILABLE and "Cannot ask systemd for the tick of s.timer" in refused.stderr
    assert count(mill) == 2


def test_a_unique_key_on_the_command_line(mill: Mill, pgmill: str, database: str) -> None:
    command = [pgmill, "submit", "--database", database, "t", "--unique-key=k"]
    assert subprocess.run(command, capture_output=True).returncode == 0
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == os.EX_TEMPFAIL and 'has the key "k"' in refused.stderr
