# SPDX-License-Identifier: MIT
"""The life of a worker and its rescue: the session lock, sessions that follow each other, tombstones."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from .conftest import End, Mill, Worker
from .test_claim import at_once


def holder(mill: Mill, worker: Worker) -> int | None:
    """Which backend has the worker's lock."""
    return mill.value("SELECT l.pid FROM pg_locks l JOIN pgmill.workers w ON l.objid = w.lock_key::oid"
                      " WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2"
                      " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
                      " AND l.classid = pgmill.lock_class('worker')::oid AND w.id = %s", worker.id)


def ended(mill: Mill, worker: Worker) -> bool:
    """Its rows are gone; only the record of its life stays."""
    return mill.heartbeat(worker) is None \
        and mill.value("SELECT ended_at IS NOT NULL FROM pgmill.workers WHERE id = %s", worker.id) \
        and mill.value("SELECT count(*) FROM pgmill.sleepers WHERE worker = %s", worker.id) == 0


# ---- sessions ----


def test_a_worker_holds_a_lock_for_as_long_as_its_session(mill: Mill) -> None:
    one, two = mill.worker(), mill.worker()
    assert holder(mill, one) == one.session.info.backend_pid
    assert holder(mill, two) == two.session.info.backend_pid
    one.die()
    mill.until_free(one)
    assert holder(mill, one) is None


def test_a_new_session_takes_over_and_ends_the_old_one(mill: Mill) -> None:
    worker = mill.worker()
    mill.submit()
    claim, = worker.claim()
    old, worker.session = worker.session, mill.connect()
    assert worker.call("attach") is True
    assert holder(mill, worker) == worker.session.info.backend_pid
    with pytest.raises(psycopg.OperationalError):
        old.execute("SELECT 1")
    assert worker.finish(End(claim)) == {claim.id: "done"}


def test_a_new_session_after_the_old_one_ended_by_itself(mill: Mill) -> None:
    worker = mill.worker()
    worker.die()
    worker.session = mill.connect()
    assert worker.call("attach") is True
    assert holder(mill, worker) == worker.session.info.backend_pid


def test_what_an_old_session_had_not_committed_is_lost_before_the_new_one_reads(mill: Mill) -> None:
    id, worker = mill.submit(), mill.worker()
    old, worker.session = worker.session, mill.connect()
    old.autocommit = False
    old.execute("SELECT pgmill.claim('default', %s, '{t}', '{3}', '{1}', 1, %s, %s)",
                [worker.id, ["-infinity"] * 4, [uuid.UUID(int=0)] * 4])
    assert worker.call("attach") is True
    assert mill.row(id).state == "ready"
    assert mill.heartbeat(worker).held == []


def test_a_worker_that_was_given_up_cannot_come_back(mill: Mill) -> None:
    worker = mill.worker()
    mill.bury(worker)
    worker.session = mill.connect()
    assert worker.call("attach") is False
    assert holder(mill, worker) is None
    mill.rescue(worker)
    assert worker.call("attach") is False
    worker.id = uuid.uuid4()
    assert worker.call("attach") is False


def test_who_comes_back_while_it_is_given_up_learns_so(mill: Mill) -> None:
    worker, rescuer = mill.worker(), mill.connect(autocommit=False)
    worker.die()
    mill.until_free(worker)
    assert rescuer.execute("SELECT pgmill.give_up(%s, %s)", [worker.id, mill.heartbeat(worker).beat]).fetchone()[0]
    worker.session = mill.connect()
    with ThreadPoolExecutor() as pool:
        attach = pool.submit(worker.call, "attach")
        time.sleep(0.1)
        assert not attach.done()
        rescuer.commit()
        assert attach.result(5) is False


# ---- a clean end ----


def test_it_leaves_when_nothing_is_its_own(mill: Mill) -> None:
    worker = mill.worker()
    mill.submit()
    claim, = worker.claim()
    worker.sleep()
    assert worker.call("leave") is False
    assert holder(mill, worker) == worker.session.info.backend_pid
    assert mill.heartbeat(worker).held == [claim.id]
    worker.finish(End(claim))
    assert worker.call("leave") is True
    assert ended(mill, worker)
    assert holder(mill, worker) is None
    assert mill.suspects() == {}


# ---- suspicion ----


def test_only_those_whose_lock_is_free_are_suspects(mill: Mill) -> None:
    alive, gone = mill.worker(), mill.worker(grace=7.5)
    gone.finish()
    gone.die()
    mill.until_free(gone)
    suspect, = mill.suspects().values()
    assert (suspect.worker, suspect.instance, suspect.beat, suspect.grace, suspect.dead) == (gone.id, "w", 2, 7.5, False)
    gone.session = mill.connect()
    gone.call("attach")
    assert mill.suspects() == {}
    assert alive.call("leave")


def test_who_holds_its_lock_is_not_given_up(mill: Mill) -> None:
    worker = mill.worker()
    assert mill.give_up(worker) is False
    assert mill.heartbeat(worker).dead is False
    worker.finish()


def test_whose_beat_has_changed_is_not_given_up(mill: Mill) -> None:
    worker = mill.worker()
    beat = mill.heartbeat(worker).beat
    worker.finish()
    worker.die()
    mill.until_free(worker)
    assert mill.value("SELECT pgmill.give_up(%s, %s)", worker.id, beat) is False
    assert mill.give_up(worker) is True


def test_who_came_back_in_between_is_not_given_up(mill: Mill) -> None:
    worker = mill.worker()
    beat = mill.heartbeat(worker).beat
    worker.die()
    mill.until_free(worker)
    worker.session = mill.connect()
    assert worker.call("attach")
    worker.die()
    mill.until_free(worker)
    assert mill.value("SELECT pgmill.give_up(%s, %s)", worker.id, beat) is False


def test_a_sign_of_life_needs_no_task(mill: Mill) -> None:
    worker, client = mill.worker(), mill.connect(autocommit=False)
    client.execute("LOCK TABLE pgmill.tasks IN ACCESS EXCLUSIVE MODE")
    beat = mill.heartbeat(worker).beat
    worker.session.execute("SET lock_timeout = '1s'")
    assert worker.call("beat") is True
    assert mill.heartbeat(worker).beat == beat + 1
    client.rollback()
    mill.bury(worker)
    assert mill.value("SELECT pgmill.beat(%s)", worker.id) is False


def test_a_tombstone_is_written_once_and_stays(mill: Mill) -> None:
    worker = mill.worker()
    mill.bury(worker)
    assert mill.give_up(worker) is False  # somebody did already
    assert mill.suspects()[worker.id].dead
    assert mill.heartbeat(worker).dead
    assert mill.value("SELECT pgmill.give_up(%s, 0)", uuid.uuid4()) is False


def test_giving_up_leaves_no_lock(mill: Mill) -> None:
    worker = mill.worker()
    mill.bury(worker)
    assert holder(mill, worker) is None


# ---- rescue ----


def test_begun_tasks_are_blamed_and_others_keep_their_place(mill: Mill) -> None:
    begun, worker = mill.submit(), mill.worker()
    worker.claim()
    worker.finish()
    waiting = mill.submit()
    claim, = worker.claim()
    mill.bury(worker)
    assert mill.rescue(worker) == 2
    row, task = mill.row(waiting), mill.task(waiting)
    assert (task.status, task.attempt, task.errors, row.due_at) == ("AVAILABLE", 0, [], claim.due_at)
    row, task = mill.row(begun), mill.task(begun)
    assert (task.status, task.attempt, task.error) == ("AVAILABLE", 1, "worker w was lost while the task ran")
    assert row.due_at > claim.due_at
    assert ended(mill, worker)
    assert mill.suspects() == {}
    assert [c.id for c in mill.worker().claim()] == [waiting, begun]


def test_the_living_are_not_rescued(mill: Mill) -> None:
    worker = mill.worker()
    id = mill.submit()
    worker.claim()
    assert mill.rescue(worker) == 0
    worker.die()
    mill.until_free(worker)
    assert mill.rescue(worker) == 0  # without a tombstone it may come back
    assert mill.task(id).status == "RUNNING"


def test_a_task_that_kills_its_workers_fails_in_the_end(mill: Mill) -> None:
    poison = mill.submit(max_attempts=2)
    for _ in range(2):
        worker = mill.worker()
        assert [c.id for c in worker.claim()] == [poison]
        worker.finish()
        mill.bury(worker)
        mill.rescue(worker)
    task = mill.task(poison)
    assert (task.status, task.attempt, len(task.errors)) == ("FAILED", 2, 2)
    assert mill.worker().claim() == []


def lost(mill: Mill, *, slots: int = 10) -> list[uuid.UUID]:
    """A worker begins what it gets, and dies."""
    worker = mill.worker()
    claims = worker.claim(slots)
    worker.finish()
    mill.bury(worker)
    mill.rescue(worker)
    return [claim.id for claim in claims]


def test_whose_workers_die_is_alone_in_its_last_attempt(mill: Mill) -> None:
    """Else the neighbours of a task that kills its workers would fail with it."""
    three = [mill.submit() for _ in range(3)]
    assert len(lost(mill)) == len(lost(mill)) == 3
    assert [mill.task(id).attempt for id in three] == [2] * 3
    worker = mill.worker()
    first, = worker.claim()
    worker.finish()
    mill.submit()
    assert worker.claim() == []  # not beside it
    worker.finish(End(first))
    second, = worker.claim()
    worker.finish(End(second, "returned"))
    assert len(worker.claim()) == 1  # still


def test_a_busy_worker_takes_others_before_one_that_must_be_alone_and_runs_dry_for_it_in_the_end(mill: Mill) -> None:
    held, alone = mill.submit(), mill.submit(max_attempts=2)
    worker = mill.worker()
    assert [c.id for c in worker.claim(1)] == [held]
    assert lost(mill) == [alone]
    worker.finish()
    other = mill.submit()
    claims = worker.claim()
    assert [c.id for c in claims] == [other]
    mill.db.execute("UPDATE pgmill.tasks SET due_at = due_at - interval '61 s' WHERE id = %s", [alone])
    mill.submit()
    assert worker.claim() == worker.claim(queue="another") == []
    assert [c.id for c in mill.worker().claim()] == [alone]  # one that has nothing takes it


def test_what_failed_otherwise_needs_not_be_alone(mill: Mill) -> None:
    id, other = mill.submit(), mill.submit()
    lost(mill)
    worker = mill.worker()
    claims = worker.claim()
    worker.finish(*(End(claim, "retry", delay=0) for claim in claims))
    assert len(worker.claim()) == 2


def test_flags_are_kept_through_a_rescue(mill: Mill) -> None:
    cancelled, paused, both = (mill.submit() for _ in range(3))
    worker = mill.worker()
    worker.claim()
    worker.finish()
    for id in (cancelled, both):
        mill.change(id, cancel_at="now")
    for id in (paused, both):
        mill.change(id, paused_at="now")
    mill.bury(worker)
    assert mill.rescue(worker) == 3
    assert [mill.task(id).status for id in (cancelled, paused, both)] == ["CANCELLED", "PAUSED", "CANCELLED"]
    assert mill.worker().claim() == []


def test_what_has_ended_or_belongs_to_others_is_left_alone(mill: Mill) -> None:
    worker, other = mill.worker(), mill.worker()
    done, returned, own = (mill.submit() for _ in range(3))
    claims = {c.id: c for c in worker.claim()}
    worker.finish(End(claims[done]), End(claims[returned], "returned"))
    assert [c.id for c in other.claim()] == [returned]
    before = mill.row(done), mill.row(returned)
    mill.bury(worker)
    assert mill.rescue(worker) == 1
    assert (mill.row(done), mill.row(returned)) == before
    assert mill.task(own).status == "AVAILABLE"


def test_a_row_that_somebody_holds_stays_for_the_next_call(mill: Mill) -> None:
    held, free = mill.submit(), mill.submit()
    worker = mill.worker()
    worker.claim()
    mill.bury(worker)
    mill.db.execute("SET statement_timeout = '1s'")
    with mill.held(held):
        assert mill.rescue(worker) == 1
        assert mill.suspects()[worker.id].dead
        assert mill.rescue(worker) == 0
    assert mill.rescue(worker) == 1
    assert [mill.task(id).status for id in (held, free)] == ["AVAILABLE", "AVAILABLE"]
    assert ended(mill, worker)


def test_rescuers_at_once_move_each_task_once(mill: Mill) -> None:
    worker, rescuers = mill.worker(), [mill.connect() for _ in range(4)]
    mill.submit_many(300)
    worker.claim(300)
    worker.finish()
    mill.bury(worker)
    query = "SELECT pgmill.rescue(%s)"
    moved = at_once(*(lambda r=r: r.execute(query, [worker.id]).fetchone()[0] for r in rescuers))
    assert sum(moved) == 300
    assert mill.value("SELECT count(*) FROM pgmill.tasks WHERE attempt = 1 AND jsonb_array_length(errors) = 1") == 300
    assert ended(mill, worker)


def test_a_rescuer_does_not_wait_for_another(mill: Mill) -> None:
    worker, other = mill.worker(), mill.connect(autocommit=False)
    mill.submit()
    worker.claim()
    mill.bury(worker)
    other.execute("SELECT pgmill.rescue(%s)", [worker.id])
    mill.db.execute("SET statement_timeout = '1s'")
    assert mill.rescue(worker) == 0
    other.rollback()
    assert mill.rescue(worker) == 1


# ---- takeover at once ----


def take_over(worker: Worker) -> tuple[int, int]:
    return worker.session.execute("SELECT moved, waiting FROM pgmill.take_over(%s)", [worker.id]).fetchone()


def test_a_successor_takes_over_at_once(mill: Mill) -> None:
    former = mill.worker(identity="unit")
    ids = [mill.submit() for _ in range(2)]
    claims = former.claim()
    former.finish()
    former.die()
    mill.until_free(former)
    heir = mill.worker(identity="unit")
    assert take_over(heir) == (2, 0)
    assert ended(mill, former)
    assert [(mill.task(id).status, mill.task(id).attempt) for id in ids] == [("AVAILABLE", 1)] * 2
    assert [c.id for c in heir.claim()] == ids
    assert heir.finish(*(End(c) for c in claims)) == dict.fromkeys(ids, "refused")
    assert take_over(heir) == (0, 0)


def test_who_holds_its_lock_is_not_taken_over(mill: Mill) -> None:
    former, heir = mill.worker(identity="unit"), mill.worker(identity="unit")
    id = mill.submit()
    former.claim()
    assert take_over(heir) == (0, 1)
    assert mill.task(id).status == "RUNNING" and not mill.heartbeat(former).dead
    former.finish()


@pytest.mark.parametrize("one, other", [("unit", "another"), ("unit", None), (None, "unit"), (None, None)])
def test_nobody_takes_over_from_another_unit(mill: Mill, one: str | None, other: str | None) -> None:
    former = mill.worker(identity=one)
    id = mill.submit()
    former.claim()
    former.die()
    mill.until_free(former)
    assert take_over(mill.worker(identity=other)) == (0, 0)
    assert mill.task(id).status == "RUNNING" and not mill.heartbeat(former).dead


def test_a_takeover_leaves_what_somebody_holds_for_the_next_call(mill: Mill) -> None:
    former = mill.worker(identity="unit")
    held, free = mill.submit(), mill.submit()
    former.claim()
    former.die()
    mill.until_free(former)
    heir = mill.worker(identity="unit")
    with mill.held(held):
        assert take_over(heir) == (1, 1)
    assert take_over(heir) == (1, 0)
    assert [mill.task(id).status for id in (held, free)] == ["AVAILABLE", "AVAILABLE"]
