# SPDX-License-Identifier: MIT
"""How runs end: outcomes, the fence, rows that others hold, and the heartbeat that goes with it."""

import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from .conftest import Claim, End, Mill, Worker

NO = '{"error": "no"}'


def running(mill: Mill, count: int = 1, **arguments: Any) -> tuple[Worker, list[Claim]]:
    """A worker with so many tasks that may have begun."""
    for _ in range(count):
        mill.submit(**arguments)
    worker = mill.worker()
    claims = worker.claim(count)
    worker.finish()
    return worker, claims


# ---- outcomes ----


@pytest.mark.parametrize("outcome, attempts, flags, state, attempt, ready", [
    #            of max            stored     blamed  may be claimed
    ("completed", (1, 3), "",       "completed", 1, False),
    ("completed", (1, 3), "cancel", "completed", 1, False),  # it did its work before anybody could stop it
    ("completed", (1, 3), "pause",  "completed", 1, False),
    ("failed",    (1, 3), "",       "failed",    1, False),
    ("failed",    (1, 3), "cancel", "failed",    1, False),
    ("failed",    (1, 3), "pause",  "failed",    1, False),
    ("retry",     (1, 3), "",       "ready",     1, True),
    ("retry",     (2, 3), "",       "ready",     2, True),
    ("retry",     (3, 3), "",       "failed",    3, False),
    ("retry",     (1, 1), "",       "failed",    1, False),
    ("retry",     (1, 3), "cancel", "cancelled", 1, False),
    ("retry",     (3, 3), "cancel", "cancelled", 3, False),
    ("retry",     (1, 3), "pause",  "ready",     1, False),
    ("retry",     (1, 3), "both",   "cancelled", 1, False),
    ("deferred",  (1, 3), "",       "ready",     0, True),
    ("deferred",  (3, 3), "",       "ready",     2, True),
    ("deferred",  (1, 1), "",       "ready",     0, True),
    ("deferred",  (1, 3), "cancel", "cancelled", 0, False),
    ("deferred",  (1, 3), "pause",  "ready",     0, False),
    ("returned",  (1, 3), "",       "ready",     0, True),
    ("returned",  (3, 3), "",       "ready",     2, True),
    ("returned",  (1, 3), "cancel", "cancelled", 0, False),
    ("returned",  (1, 3), "pause",  "ready",     0, False),
    ("returned",  (1, 3), "both",   "cancelled", 0, False),
])
def test_an_outcome(mill: Mill, outcome: str, attempts: tuple[int, int], flags: str, state: str, attempt: int,
                    ready: bool) -> None:
    worker, (claim,) = running(mill, max_attempts=attempts[1])
    mill.change(claim.id, attempt=attempts[0], cancel_at="now" if flags in ("cancel", "both") else None,
                paused_at="now" if flags in ("pause", "both") else None)
    assert worker.finish(End(claim, outcome)) == {claim.id: "done"}
    row = mill.row(claim.id)
    assert (row.state, row.attempt, row.ready) == (state, attempt, ready)
    assert (row.finished_at is not None) == (state != "ready")
    assert (row.paused_at is not None) == (flags in ("pause", "both"))
    assert (len(worker.claim()) == 1) == ready


def test_a_result_is_kept_as_it_came(mill: Mill) -> None:
    worker, (claim,) = running(mill)
    worker.finish(End(claim, result='{"n": 9007199254740993, "u": "ü"}'))
    assert mill.value("SELECT result::text FROM pgmill.task WHERE id = %s", claim.id) \
        == '{"n": 9007199254740993, "u": "ü"}'


def test_another_attempt_waits_for_its_delay(mill: Mill) -> None:
    worker, (claim,) = running(mill)
    worker.finish(End(claim, "retry", error=NO, delay=60))
    row = mill.row(claim.id)
    assert timedelta(seconds=55) < row.due_at - datetime.now(UTC) <= timedelta(seconds=60)
    assert row.finished_at is None and row.started_at is not None


def test_what_is_returned_keeps_its_place_as_if_it_had_never_begun(mill: Mill) -> None:
    worker, (first, second) = running(mill, 2)
    worker.finish(End(second, "returned"), End(first, "returned"))
    assert mill.row(first.id).due_at == first.due_at
    assert mill.row(first.id).started_at is None
    assert [c.id for c in worker.claim()] == [first.id, second.id]


def test_every_blamed_attempt_leaves_an_error(mill: Mill) -> None:
    mill.submit(max_attempts=2)
    worker = mill.worker()
    for code in (3, 4):
        claim, = worker.claim()
        worker.finish(End(claim, "retry", error=f'{{"error": "exit status {code}", "exit_status": {code}}}', delay=0))
    task = mill.task(claim.id)
    assert (task.status, task.error) == ("FAILED", "exit status 4")
    assert all(error.pop("run_seconds") > 0 for error in task.errors)
    times = [error.pop(key) for error in task.errors for key in ("started_at", "at")]
    assert task.errors == [
        {"attempt": 1, "worker": str(worker.id), "error": "exit status 3", "exit_status": 3},
        {"attempt": 2, "worker": str(worker.id), "error": "exit status 4", "exit_status": 4},
    ]
    assert times == sorted(times)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", at) for at in times)


def test_errors_are_bounded_the_oldest_make_way(mill: Mill) -> None:
    mill.submit(max_attempts=1000)
    worker = mill.worker()
    for code in range(103):
        claim, = worker.claim()
        worker.finish(End(claim, "retry", error=f'{{"error": "{code}"}}', delay=0))
    errors = mill.task(claim.id).errors
    assert [error["error"] for error in errors] == [str(code) for code in range(3, 103)]
    for size in (100_000, 100_000, 300_000):
        claim, = worker.claim()
        worker.finish(End(claim, "retry", error=f'{{"error": "{"x" * size}"}}', delay=0))
        sizes = [len(error["error"]) for error in mill.task(claim.id).errors]
        assert sizes[-1] == size and (len(sizes) == 1 or sum(sizes) < 262144)
    assert sizes == [300_000]


def test_runs_put_off_in_a_row_are_counted_and_a_blamed_one_begins_anew(mill: Mill) -> None:
    mill.submit(max_attempts=9)
    worker = mill.worker()
    seen = []
    for outcome in ("deferred", "deferred", "returned", "retry", "deferred"):
        claim, = worker.claim()
        worker.finish(End(claim, outcome, error=NO, delay=0))
        seen.append(mill.row(claim.id).deferrals)
    assert seen == [1, 2, 2, 0, 1] and mill.task(claim.id).attempt == 1


SAID = '{"error": "no", "stderr": "said"}'


@pytest.mark.parametrize("outcome, error, log, errors", [
    ("completed", '{"stderr": "said"}', "said", 0),
    ("completed", None,                 "before", 0),
    ("completed", "{}",                 "before", 0),
    ("deferred",  SAID,                 "said", 0),
    ("returned",  '{"stderr": "said"}', "said", 0),
    ("returned",  None,                 "before", 0),
    ("failed",    SAID,                 "said", 1),
    ("retry",     SAID,                 "said", 1),
    ("cancelled", SAID,                 "said", 1),
    ("retry",     NO,                   "before", 1),
])
def test_the_log_is_kept_once(mill: Mill, outcome: str, error: str | None, log: str, errors: int) -> None:
    worker, (claim,) = running(mill)
    mill.change(claim.id, log="before")
    worker.finish(End(claim, outcome, error=error))
    assert mill.value("SELECT text FROM pgmill.log(%s)", claim.id) == log
    row = mill.row(claim.id)
    assert len(row.errors) == errors
    assert row.log == (None if errors and log == "said" else log)


def test_many_end_differently_at_once(mill: Mill) -> None:
    worker, claims = running(mill, 5)
    ends = [End(claims[0], result="1"), End(claims[1], "failed", error=NO), End(claims[2], "retry", error=NO, delay=9),
            End(claims[3], "returned")]
    assert worker.finish(*reversed(ends)) == {claim.id: "done" for claim in claims[:4]}
    assert [mill.task(c.id).status for c in claims] == ["COMPLETED", "FAILED", "RETRYABLE", "AVAILABLE", "RUNNING"]
    assert [len(mill.task(c.id).errors) for c in claims] == [0, 1, 1, 0, 0]
    assert mill.heartbeat(worker).held == [claims[4].id]


# ---- the fence ----


def refused(mill: Mill, worker: Worker, claim: Claim) -> None:
    before = mill.row(claim.id)
    assert worker.finish(End(claim, result='"stale"')) == {claim.id: "refused"}
    assert mill.row(claim.id) == before


def test_another_claim_of_the_same_worker_is_refused(mill: Mill) -> None:
    worker, (claim,) = running(mill)
    refused(mill, worker, claim._replace(claim_no=claim.claim_no - 1))
    refused(mill, worker, claim._replace(claim_no=claim.claim_no + 1))


def test_another_worker_is_refused(mill: Mill) -> None:
    """After a crash of the database the same claim_no may have been given out twice."""
    _, (claim,) = running(mill)
    refused(mill, mill.worker(), claim)


def test_what_does_not_run_is_refused(mill: Mill) -> None:
    worker, (done, again) = running(mill, 2)
    worker.finish(End(done), End(again, "returned"))
    refused(mill, worker, done)
    refused(mill, worker, again)


def test_an_unknown_task_is_refused_and_its_neighbours_end(mill: Mill) -> None:
    worker, (claim,) = running(mill)
    nothing = claim._replace(id=uuid.uuid4())
    assert worker.finish(End(nothing), End(claim)) == {nothing.id: "refused", claim.id: "done"}


def test_a_worker_that_was_given_up_writes_nothing(mill: Mill) -> None:
    worker, (claim,) = running(mill)
    mill.bury(worker)
    before = mill.row(claim.id), mill.heartbeat(worker)
    worker.session = mill.connect()
    with pytest.raises(psycopg.Error) as caught:
        worker.finish(End(claim))
    assert caught.value.sqlstate == "PM001"
    assert (mill.row(claim.id), mill.heartbeat(worker)) == before
    mill.rescue(worker)
    with pytest.raises(psycopg.Error) as caught:
        worker.finish()
    assert caught.value.sqlstate == "PM001"


def test_a_late_answer_to_an_earlier_claim_leaves_the_present_one_held(mill: Mill) -> None:
    """The end of the first run is sent again after a lost answer; the second run is not to be forgotten."""
    worker, (first,) = running(mill)
    worker.finish(End(first, "returned"))
    second, = worker.claim()
    refused(mill, worker, first)
    assert mill.heartbeat(worker).held == [second.id]


# ---- rows that others hold ----


def test_an_open_transaction_stops_neither_neighbours_nor_the_heartbeat(mill: Mill) -> None:
    worker, (held, free) = running(mill, 2)
    worker.session.execute("SET statement_timeout = '1s'")
    beat = mill.heartbeat(worker).beat
    with mill.held(held.id):
        assert worker.finish(End(held, result="1"), End(free)) == {held.id: "locked", free.id: "done"}
        heartbeat = mill.heartbeat(worker)
        assert (heartbeat.beat, heartbeat.held) == (beat + 1, [held.id])
    assert mill.task(held.id).status == "RUNNING"
    assert worker.finish(End(held, result="1")) == {held.id: "done"}
    assert mill.task(held.id).result == 1
    assert mill.heartbeat(worker).held == []


def test_a_cancel_that_was_committed_in_between_is_seen(mill: Mill) -> None:
    worker, (claim,) = running(mill)
    client = mill.connect(autocommit=False)
    client.execute("UPDATE pgmill.tasks SET cancel_at = now() WHERE id = %s", [claim.id])
    assert worker.finish(End(claim, "retry", error=NO)) == {claim.id: "locked"}
    client.commit()
    assert worker.finish(End(claim, "retry", error=NO)) == {claim.id: "done"}
    assert mill.task(claim.id).status == "CANCELLED"


# ---- the heartbeat ----


def test_every_call_is_a_heartbeat(mill: Mill) -> None:
    worker = mill.worker()
    before = mill.heartbeat(worker)
    assert worker.finish() == {}
    worker.finish()
    after = mill.heartbeat(worker)
    assert after.beat - before.beat == 2
    assert after.at > before.at


def test_tasks_count_as_begun_from_the_finish_after_their_claim(mill: Mill) -> None:
    worker, begun = running(mill, 2)
    mill.submit()
    waiting, = worker.claim()
    heartbeat = mill.heartbeat(worker)
    assert heartbeat.held == [c.id for c in begun] + [waiting.id]
    assert heartbeat.started == 2
    worker.finish(End(begun[0]))
    heartbeat = mill.heartbeat(worker)
    assert (heartbeat.held, heartbeat.started) == ([begun[1].id, waiting.id], 2)


def test_it_learns_the_rest_of_a_claim_from_what_it_holds(mill: Mill) -> None:
    worker, (known,) = running(mill)
    new = mill.submit(payload='{"a":  1.0}', timeout=timedelta(seconds=1.5), max_attempts=4)
    claim, = worker.claim()
    query = "SELECT * FROM pgmill.claimed_tasks(%s, %s)"
    assert worker.session.execute(query, [worker.id, [known.id]]).fetchall() \
        == [(new, claim.claim_no, "default", "t", 1, 4, 0, 1.5, '{"a": 1.0}', False)]
    assert [(row[0], row[-1]) for row in worker.session.execute(query, [worker.id, []])] \
        == [(known.id, True), (new, False)]


# ---- what cannot be written ----


@pytest.mark.parametrize("bad, sqlstate", [
    ({"result": "{"}, "22P02"), ({"result": r'"\u0000"'}, "22P05"), ({"result": "1e999999"}, "22003"),
    ({"error": "{"}, "22P02"), ({"outcome": "retry", "error": r'{"error": "\u0000"}'}, "22P05"),
])
def test_a_bad_result_fails_the_whole_call_and_changes_nothing(mill: Mill, bad: dict[str, str], sqlstate: str) -> None:
    worker, claims = running(mill, 2)
    before = [mill.row(c.id) for c in claims], mill.heartbeat(worker)
    with pytest.raises(psycopg.Error) as caught:
        worker.finish(End(claims[0]), End(claims[1], **bad))
    assert caught.value.sqlstate == sqlstate
    assert ([mill.row(c.id) for c in claims], mill.heartbeat(worker)) == before


def test_ending_a_run_is_a_heap_only_update(mill: Mill) -> None:
    """It leaves no dead entry in any index."""
    worker, claims = running(mill, 200)
    query = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relid = 'pgmill.tasks'::regclass"
    with worker.session.transaction():
        before = worker.session.execute(query).fetchone()
        worker.finish(*(End(claim, result='"fine"', error='{"stderr": "said"}') for claim in claims))
        after = worker.session.execute(query).fetchone()
    updates, heap_only = after[0] - before[0], after[1] - before[1]
    assert updates == 200
    assert heap_only >= 100  # but for rows whose page was full


def test_what_the_last_attempt_took_is_kept(mill: Mill) -> None:
    id, worker = mill.submit(), mill.worker()
    worker.finish(End(*worker.claim(), "retry", error='{"error": "no"}', delay=0, cpu_usec=7, memory_peak=8))
    assert (mill.task(id).cpu_usec, mill.task(id).memory_peak) == (7, 8)
    worker.finish(End(*worker.claim(), "returned"))
    assert (mill.task(id).cpu_usec, mill.task(id).memory_peak) == (7, 8)
    worker.finish(End(*worker.claim(), cpu_usec=9))
    assert (mill.task(id).cpu_usec, mill.task(id).memory_peak) == (9, None)


def test_what_waits_for_a_slot_has_not_begun(mill: Mill) -> None:
    mill.submit_many(3)
    worker = mill.worker()
    one, two, three = (claim.id for claim in worker.claim())

    def turn(*ahead: uuid.UUID) -> tuple[list[uuid.UUID], int]:
        worker.session.execute("SELECT pgmill.finish(%s, '{}', '{}', '{}', '{}', '{}', '{}', ahead => %s::uuid[])",
                               [worker.id, list(ahead)])
        heartbeat = mill.heartbeat(worker)
        return heartbeat.held, heartbeat.started

    assert turn(one, three) == ([two, one, three], 1)
    assert turn(three) == ([two, one, three], 2)
    assert turn() == ([two, one, three], 3)
