# SPDX-License-Identifier: MIT
"""Pages of tasks: filters, the order, and what one call looks at."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from .conftest import End, Mill

LOOKS_AT = 20_000


def page(mill: Mill, size: int = 100, before: uuid.UUID | None = None, **filters: Any) -> tuple[Any, list[uuid.UUID]]:
    names = ["statuses", "queue", "name", "priority", "tag", "created_after", "created_before"]
    rows = mill.db.execute("SELECT next, id FROM pgmill.list(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ORDER BY id DESC",
                           [*(filters.get(name) for name in names), before, size, filters.get("budget", "1 s")]).fetchall()
    assert len({next for next, _ in rows}) == 1
    return rows[0][0], [id for _, id in rows if id]


def pages(mill: Mill, size: int, **filters: Any) -> list[list[uuid.UUID]]:
    before, all = None, []
    while True:
        before, ids = page(mill, size, before, **filters)
        all.append(ids)
        if not before:
            return all


def test_newest_first_page_by_page(mill: Mill) -> None:
    ids = [mill.submit() for _ in range(7)][::-1]
    ids.sort(reverse=True)
    assert pages(mill, 3) == [ids[:3], ids[3:6], ids[6:]]
    assert pages(mill, 7) == [ids]
    assert page(mill, name="nobody") == (None, [])


def test_every_filter(mill: Mill) -> None:
    plain = mill.submit()
    other = mill.submit("u", queue="q", priority="HIGH", tags=["a", "b"],
                        scheduled_at=datetime.now(UTC) + timedelta(hours=1))
    for filters in ({"queue": "q"}, {"name": "u"}, {"priority": "HIGH"}, {"tag": "b"}, {"statuses": ["SCHEDULED"]},
                    {"created_after": mill.row(plain).created_at}):
        assert page(mill, **filters) == (None, [other]), filters
    assert page(mill, statuses=["AVAILABLE", "FAILED"]) == (None, [plain])
    assert page(mill, created_before=mill.row(other).created_at) == (None, [plain])
    assert page(mill, queue="q", name="t") == (None, [])


def test_what_arrives_meanwhile_disturbs_no_page(mill: Mill) -> None:
    ids = sorted((mill.submit() for _ in range(9)), reverse=True)
    before, seen = None, []
    while True:
        before, some = page(mill, 2, before)
        seen += some
        if not before:
            break
        mill.submit()
    assert seen == ids


@pytest.mark.parametrize("analyze", [True, False])
def test_one_call_looks_on_for_a_time_and_says_where_to_go_on(mill: Mill, analyze: bool) -> None:
    needle = mill.value("SELECT pgmill.submit('needle', id => '00000000-0000-7000-8000-000000000000')")
    mill.submit_many(2 * LOOKS_AT + 100)
    if analyze:
        mill.db.execute("ANALYZE pgmill.tasks")
    assert page(mill, 10, name="needle", budget="1 hour") == (None, [needle])
    calls, before = 1, page(mill, 10, name="needle", budget="0")[0]
    while before:
        calls += 1
        before, ids = page(mill, 10, before, name="needle", budget="0")
        assert calls < LOOKS_AT
    assert ids == [needle]
    query = "SELECT coalesce(idx_tup_fetch, 0) + seq_tup_read FROM pg_stat_xact_user_tables " \
            "WHERE relid = 'pgmill.tasks'::regclass"
    with mill.db.transaction():
        rows = mill.value(query)
        assert len(page(mill, 10)[1]) == 10
        assert mill.value(query) - rows <= 100  # it stops when the page is full


@pytest.mark.parametrize("analyze", [True, False])
def test_a_rare_status_is_found_at_once_behind_any_number_of_others(mill: Mill, analyze: bool) -> None:
    worker, later = mill.worker(), datetime.now(UTC) + timedelta(hours=1)
    rare = {status: mill.submit() for status in ("FAILED", "RETRYABLE", "RUNNING", "FROZEN")}
    claims = {claim.id: claim for claim in worker.claim()}
    worker.finish(End(claims[rare["FAILED"]], "failed"), End(claims[rare["RETRYABLE"]], "retry", delay=600))
    rare |= {status: mill.submit() for status in ("PAUSED", "CANCELLED", "AVAILABLE")}
    rare["SCHEDULED"] = mill.submit(scheduled_at=later)
    mill.value("SELECT pgmill.pause(%s)", rare["PAUSED"])
    mill.value("SELECT pgmill.cancel(%s)", rare["CANCELLED"])
    mill.value("SELECT pgmill.pause(%s)", frozen := rare.pop("FROZEN"))
    worker.obey(claims[frozen], "frozen")
    mill.db.execute("INSERT INTO pgmill.tasks (id, queue, name, payload, priority, due_at, state, ready, started_at)"
                    " SELECT pgmill.uuid_v7(), 'default', 't', 'null', 'LOW', now(), 'completed', false, now()"
                    " FROM generate_series(1, %s)", [LOOKS_AT + 100])
    if analyze:
        mill.db.execute("ANALYZE pgmill.tasks")
    query = "SELECT coalesce(idx_tup_fetch, 0) + seq_tup_read FROM pg_stat_xact_user_tables " \
            "WHERE relid = 'pgmill.tasks'::regclass"
    for status, id in rare.items():
        with mill.db.transaction():
            rows = mill.value(query)
            expect = sorted([id, frozen] if status == "PAUSED" else [id], reverse=True)
            assert page(mill, statuses=[status]) == (None, expect), status
            assert mill.value(query) - rows <= 100, status
    every = sorted([*rare.values(), frozen], reverse=True)
    assert page(mill, statuses=[*rare]) == (None, every)
    assert [id for ids in pages(mill, 2, statuses=[*rare]) for id in ids] == every
    assert page(mill, statuses=["FAILED", "RUNNING"], queue="q") == (None, [])


def test_due_tasks_are_found_also_when_they_are_many(mill: Mill) -> None:
    mill.submit_many(LOOKS_AT + 100)
    found = pages(mill, 1000, statuses=["AVAILABLE", "FAILED"], budget="1 hour")
    assert len({id for ids in found for id in ids}) == sum(map(len, found)) == LOOKS_AT + 100


def test_times_bound_what_is_looked_at(mill: Mill) -> None:
    old = [mill.value("SELECT pgmill.submit('old', id => %s)", [f"00000{n}00-0000-7000-8000-000000000000"])
           for n in (1, 2, 3)]
    mill.db.execute("UPDATE pgmill.tasks SET created_at = pgmill.uuid_time(id)")
    mill.submit_many(LOOKS_AT + 100)
    times = [datetime.fromtimestamp(int(str(id)[:8], 16) * 65.536, UTC) for id in old]
    assert page(mill, created_before=times[2]) == (None, old[1::-1])
    assert page(mill, created_after=times[0], created_before=times[2] + timedelta(seconds=1)) == (None, old[:0:-1])
    recent = datetime.now(UTC) - timedelta(hours=1)
    assert page(mill, 3, created_after=recent, name="old")[1] == []
    assert page(mill, created_after=datetime.now(UTC) + timedelta(days=30)) == (None, [])


def test_the_log_is_that_of_the_last_attempt_that_kept_one(mill: Mill) -> None:
    id, worker = mill.submit(max_attempts=5), mill.worker()
    query = "SELECT known, text FROM pgmill.log(%s)"
    assert mill.db.execute(query, [id]).fetchone() == (True, None)
    assert mill.db.execute(query, [uuid.uuid4()]).fetchone() == (False, None)
    for error in ('{"error": "1", "stderr": "first\\n"}', '{"error": "2", "stderr": "second\\n"}', '{"error": "3"}'):
        worker.finish(End(*worker.claim(), "retry", error=error, delay=0))
    assert mill.db.execute(query, [id]).fetchone() == (True, "second\n")
