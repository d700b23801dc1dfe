# SPDX-License-Identifier: MIT
"""Who has a lease is told of every change, once and in order; nobody has one: not a single notification."""

import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from .conftest import End, Mill

Events = list[tuple[uuid.UUID, str]]


class Watcher:
    def __init__(self, mill: Mill, lease: bool = True) -> None:
        self.session, self.id, self.payloads = mill.connect(), uuid.uuid4(), []
        self.session.add_notify_handler(lambda notify: self.payloads.append(notify.payload))
        if lease:
            assert self.call("watch")
        else:
            self.session.execute("LISTEN pgmill_events")

    def call(self, function: str) -> bool:
        return self.session.execute(f"SELECT pgmill.{function}(%s)", [self.id]).fetchone()[0]

    def seen(self) -> Events:
        """What was told since the last time."""
        for _ in range(2):
            self.session.execute("SELECT 1")
        changes = [change for payload in self.payloads for change in json.loads(payload)]
        self.payloads.clear()
        for change in changes:
            assert set(change) == {"id", "queue", "name", "status", "at"}
            assert abs(datetime.fromisoformat(change["at"]) - datetime.now(UTC)) < timedelta(minutes=1)
        return [(uuid.UUID(change["id"]), change["status"]) for change in changes]


def test_the_life_of_a_task(mill: Mill) -> None:
    watcher, worker = Watcher(mill), mill.worker()
    id = mill.submit(max_attempts=2)
    assert watcher.seen() == [(id, "AVAILABLE")]
    for verb, status in (("pause", "PAUSED"), ("resume", "AVAILABLE")):
        for _ in range(2):  # the second time nothing changes
            mill.value(f"SELECT pgmill.{verb}(%s)", id)
        assert watcher.seen() == [(id, status)]
    claim, = worker.claim()
    assert watcher.seen() == []  # nothing has begun
    worker.finish()
    assert watcher.seen() == [(id, "RUNNING")]
    worker.finish()
    assert watcher.seen() == []
    worker.finish(End(claim, "retry", delay=600))
    assert watcher.seen() == [(id, "RETRYABLE")]
    mill.value("SELECT pgmill.retry(%s)", id)
    assert watcher.seen() == [(id, "AVAILABLE")]
    worker.finish(End(*worker.claim()))
    assert watcher.seen() == [(id, "COMPLETED")]


def test_a_cancelled_and_a_rescued_task(mill: Mill) -> None:
    later = mill.submit(scheduled_at=datetime.now(UTC) + timedelta(hours=1))
    id, worker = mill.submit(), mill.worker()
    worker.claim()
    worker.finish()
    watcher = Watcher(mill)
    mill.value("SELECT pgmill.cancel(%s)", later)
    assert watcher.seen() == [(later, "CANCELLED")]
    mill.bury(worker)
    mill.rescue(worker)
    assert watcher.seen() == [(id, "AVAILABLE")]


def submit_group(session: psycopg.Connection, ids: list[uuid.UUID]) -> None:
    n = len(ids)
    session.execute("SELECT pgmill.submit_group(%s, array_fill('default'::text, %s), array_fill('t'::text, %s),"
                    " array_fill('null'::text, %s), array_fill('LOW'::pgmill.priority, %s), array_fill(NULL::timestamptz, %s),"
                    " array_fill(NULL::int, %s), array_fill(NULL::float8, %s), array_fill('{}'::text, %s),"
                    " array_fill(NULL::text, %s))", [ids, *[[n]] * 9])


def test_a_group_is_told_by_the_commit_that_stores_it(mill: Mill) -> None:
    """And not by a later one, which others could be before."""
    ids, watcher, api = sorted(uuid.uuid4() for _ in range(3)), Watcher(mill), mill.connect(autocommit=False)
    submit_group(api, ids)
    assert watcher.seen() == []
    api.commit()
    mill.value("SELECT pgmill.cancel(%s)", ids[1])
    assert watcher.seen() == [*((id, "AVAILABLE") for id in ids), (ids[1], "CANCELLED")]
    submit_group(api, ids)  # sent again, since its answer was lost
    api.commit()
    assert watcher.seen() == []


def test_one_turn_is_told_in_few_words(mill: Mill) -> None:
    ids = sorted(mill.submit("n" * 100) for _ in range(100))
    worker = mill.worker(["n" * 100])
    claims = worker.claim(100)
    watcher = Watcher(mill)
    worker.finish(*(End(claim) for claim in claims))
    watcher.session.execute("SELECT 1")
    watcher.session.execute("SELECT 1")
    assert len(watcher.payloads) <= 5
    assert max(len(payload) for payload in watcher.payloads) <= 7900
    assert watcher.seen() == [(id, "COMPLETED") for id in ids]


def test_what_is_taken_back_is_not_told(mill: Mill) -> None:
    watcher, client = Watcher(mill), mill.connect(autocommit=False)
    client.execute("SELECT pgmill.submit('t')")
    client.rollback()
    assert watcher.seen() == []


def expire(mill: Mill, watcher: Watcher) -> None:
    mill.db.execute("UPDATE pgmill.watchers SET until = clock_timestamp()")


@pytest.mark.parametrize("end", [lambda mill, watcher: None, expire, lambda mill, watcher: watcher.call("watch_end")])
def test_without_a_lease_there_is_no_notification(mill: Mill, end: Callable[[Mill, Watcher], None]) -> None:
    somebody, listener = Watcher(mill, lease=end.__name__ == "expire"), Watcher(mill, lease=False)
    if end.__name__ != "expire":
        somebody.call("watch")
        somebody.call("watch_end")
    end(mill, somebody)
    worker, id = mill.worker(), mill.submit()
    mill.value("SELECT pgmill.pause(%s)", id)
    mill.value("SELECT pgmill.resume(%s)", id)
    worker.finish(End(*worker.claim()))
    assert listener.seen() == somebody.seen() == []


def test_a_lease_that_ran_out_says_so(mill: Mill) -> None:
    watcher = Watcher(mill)
    assert watcher.call("watch_on") is True
    expire(mill, watcher)
    assert watcher.call("watch_on") is False
    assert watcher.call("watch_on") is True
    assert 10 < mill.value("SELECT extract(epoch FROM until - clock_timestamp()) FROM pgmill.watchers") <= 15
    watcher.call("watch_end")
    assert watcher.call("watch_on") is False
    id = mill.submit()
    assert watcher.seen() == [(id, "AVAILABLE")]


def test_watchers_do_not_need_each_other(mill: Mill) -> None:
    first, second = Watcher(mill), Watcher(mill)
    first.call("watch_end")
    id = mill.submit()
    assert (first.seen(), second.seen()) == ([], [(id, "AVAILABLE")])
