# SPDX-License-Identifier: MIT
"""The central tests can fail: each is run against a schema that lacks the rule it guards."""

from collections.abc import Callable
from functools import partial

import psycopg
import pytest

from . import test_claim, test_finish, test_submit, test_workers
from .conftest import Mill

SKIP = "SKIP LOCKED"
END_RUN = partial(test_finish.test_an_outcome, outcome="retry", attempts=(1, 3), state="ready", attempt=1)

MUTANTS: list[tuple[str, str, str, Callable[[Mill], None]]] = [
    ("claim", "PERFORM pg_advisory_xact_lock", "PERFORM concat", test_claim.test_claims_of_a_queue_come_one_after_the_other),
    ("claim", SKIP, "", test_claim.test_a_row_of_an_open_transaction_is_neither_taken_nor_waited_for),
    ("claim", "IF NOT FOUND", "IF false", test_claim.test_a_stranger_is_refused_and_nothing_stays_claimed),
    ("claim", "AND NOT h.dead", "", test_claim.test_a_worker_that_was_given_up_is_refused),
    ("claim", "AND t.due_at <= clock", "", test_claim.test_what_is_due_later_is_not_taken),
    ("claim", "'off', true", "'off', false", test_claim.test_only_the_claim_itself_commits_asynchronously),
    ("claim", "FOR level IN REVERSE cardinality(levels)..1", "FOR level IN 1..cardinality(levels)",
     test_claim.test_priority_then_due_time_then_id),
    ("end_runs", "AND t.claim_no = g.claim_no", "", test_finish.test_another_claim_of_the_same_worker_is_refused),
    ("end_runs", "AND t.worker = end_runs.worker", "", test_finish.test_another_worker_is_refused),
    ("end_runs", "AND t.state = 'running'", "", test_finish.test_what_does_not_run_is_refused),
    ("end_runs", SKIP, "", test_finish.test_an_open_transaction_stops_neither_neighbours_nor_the_heartbeat),
    ("end_runs", SKIP, "", test_workers.test_a_row_that_somebody_holds_stays_for_the_next_call),
    ("end_runs", "AND t.paused_at IS NULL", "", partial(END_RUN, flags="pause", ready=False)),
    ("finish", "AND NOT h.dead", "", test_finish.test_a_worker_that_was_given_up_writes_nothing),
    ("finish", "OR u = ANY (present)", "", test_finish.test_an_open_transaction_stops_neither_neighbours_nor_the_heartbeat),
    ("attach", "PERFORM pg_terminate_backend", "PERFORM concat", test_workers.test_a_new_session_takes_over_and_ends_the_old_one),
    ("attach", "AND NOT h.dead", "", test_workers.test_a_worker_that_was_given_up_cannot_come_back),
    ("attach", "PERFORM pg_advisory_lock", "PERFORM concat", test_workers.test_a_worker_holds_a_lock_for_as_long_as_its_session),
    ("give_up", "SELECT pg_try_advisory_xact_lock", "SELECT '' <> concat", test_workers.test_who_holds_its_lock_is_not_given_up),
    ("give_up", "AND h.beat = give_up.beat", "", test_workers.test_whose_beat_has_changed_is_not_given_up),
    ("rescue", SKIP, "", test_workers.test_a_rescuer_does_not_wait_for_another),
    ("rescue", "AND h.dead", "", test_workers.test_the_living_are_not_rescued),
    ("wake", "LIMIT w.n", "", test_submit.test_as_many_are_told_as_there_are_tasks),
]


@pytest.mark.parametrize("function, rule, without, test", MUTANTS)
def test_without_a_rule(mill: Mill, function: str, rule: str, without: str, test: Callable[[Mill], None]) -> None:
    source = mill.value("SELECT pg_get_functiondef(%s::regproc)", f"pgmill.{function}")
    assert rule in source
    mill.db.execute(source.replace(rule, without).encode())
    with pytest.raises((AssertionError, psycopg.Error, pytest.fail.Exception)):
        test(mill)
