# SPDX-License-Identifier: MIT
"""What running tasks say of themselves: fenced, never waiting, in no index, and told to who watches."""

import json
import uuid
from typing import Any

import psycopg
import pytest

from .conftest import Claim, End, Mill, Worker


def report(worker: Worker, *reports: tuple[Claim, float | None, str | None]) -> list[tuple[uuid.UUID, int]]:
    return worker.session.execute(
        "SELECT id, claim_no FROM pgmill.report(%s, %s::uuid[], %s::bigint[], %s::real[], %s::text[])",
        [worker.id, [r[0].id for r in reports], [r[0].claim_no for r in reports], [r[1] for r in reports],
         [r[2] for r in reports]]).fetchall()


def running(mill: Mill, count: int = 1) -> tuple[Worker, list[Claim]]:
    for _ in range(count):
        mill.submit()
    worker = mill.worker()
    claims = worker.claim(count)
    worker.finish()
    return worker, claims


def said(mill: Mill, claim: Claim) -> Any:
    task = mill.task(claim.id)
    return task.progress, task.status_text


def test_words_are_kept_until_the_next_attempt(mill: Mill) -> None:
    worker, (one, two) = running(mill, 2)
    report(worker, (two, None, "two"), (one, 33.33, None))
    assert (said(mill, one), said(mill, two)) == ((pytest.approx(33.33), None), (None, "two"))
    report(worker, (one, 50, "half"))
    worker.finish(End(one, "retry", error='{"error": "no"}', delay=0))
    assert said(mill, one) == (50, "half")
    again, = worker.claim()
    assert again.id == one.id and said(mill, one) == (None, None)


@pytest.mark.parametrize("how", ["claim_no", "worker", "ended"])
def test_who_does_not_run_it_has_no_say(mill: Mill, how: str) -> None:
    worker, (claim,) = running(mill)
    if how == "ended":
        worker.finish(End(claim))
    if how == "worker":
        worker = mill.worker()
    assert report(worker, (claim._replace(claim_no=claim.claim_no + (how == "claim_no")), 1, "x")) == []
    assert said(mill, claim) == (None, None)


def test_a_row_that_somebody_holds_is_named_and_not_waited_for(mill: Mill) -> None:
    worker, (held, free) = running(mill, 2)
    with mill.held(held.id):
        assert report(worker, (held, 1, "held"), (free, 2, "free")) == [(held.id, held.claim_no)]
        assert said(mill, free) == (2, "free")
    assert said(mill, held) == (None, None)


@pytest.mark.parametrize("progress, text", [(100.5, None), (-1, None), (None, ""), (None, "x" * 201)])
def test_what_is_out_of_bounds_is_refused(mill: Mill, progress: float | None, text: str | None) -> None:
    worker, (claim,) = running(mill)
    with pytest.raises(psycopg.errors.CheckViolation):
        report(worker, (claim, progress, text))


def test_it_waits_for_no_disk_and_touches_no_index(mill: Mill) -> None:
    worker, claims = running(mill, 100)
    query = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relid = 'pgmill.tasks'::regclass"
    with worker.session.transaction():
        before = worker.session.execute(query).fetchone()
        report(worker, *((claim, 50, "Encoding, 50 %") for claim in claims))
        after = worker.session.execute(query).fetchone()
        assert worker.session.execute("SHOW synchronous_commit").fetchone() == ("off",)
    assert after[0] - before[0] == 100 and after[1] - before[1] >= 50
    assert worker.session.execute("SHOW synchronous_commit").fetchone() != ("off",)


def test_who_watches_is_told(mill: Mill) -> None:
    worker, (claim,) = running(mill)
    session, payloads = mill.connect(), []
    session.add_notify_handler(lambda notify: payloads.append(notify.payload))
    session.execute("SELECT pgmill.watch(%s)", [uuid.uuid4()])
    text = '"\\' * 100
    report(worker, (claim, 12.5, text))
    for _ in range(2):
        session.execute("SELECT 1")
    (event,), = map(json.loads, payloads)
    assert (event["id"], event["status"], event["progress"], event["status_text"]) \
        == (str(claim.id), "RUNNING", 12.5, text)
    assert len(payloads[0]) < 900  # what the API takes for one event
