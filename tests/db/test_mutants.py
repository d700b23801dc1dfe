# SPDX-License-Identifier: MIT
"""The central tests can fail: each is run against a schema that lacks the rule it guards."""

from collections.abc import Callable
from functools import partial

import psycopg
import pytest

from . import (
    test_admin,
    test_claim,
    test_finish,
    test_keys,
    test_list,
    test_steer,
    test_submit,
    test_tally,
    test_watch,
    test_workers,
)
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
    ("claim", "ORDER BY n.priority DESC, n.due_at", "ORDER BY n.due_at",
     test_claim.test_few_slots_get_the_most_urgent_of_all_names),
    ("claim", "EXIT WHEN cardinality(batch) = cardinality(places)", "EXIT",
     test_claim.test_behind_rows_that_are_held_others_are_found),
    ("claim", "WHERE n.nth <= n.room", "", test_claim.test_no_more_of_a_name_than_there_is_room),
    ("claim", "room := ARRAY(", "took := ARRAY(", test_claim.test_a_held_row_takes_no_room),
    ("end_runs", "AND t.claim_no = g.claim_no", "", test_finish.test_another_claim_of_the_same_worker_is_refused),
    ("end_runs", "AND t.worker = end_runs.worker", "", test_finish.test_another_worker_is_refused),
    ("end_runs", "AND t.state = 'running'", "", test_finish.test_what_does_not_run_is_refused),
    ("end_runs", SKIP, "", test_finish.test_an_open_transaction_stops_neither_neighbours_nor_the_heartbeat),
    ("end_runs", SKIP, "", test_workers.test_a_row_that_somebody_holds_stays_for_the_next_call),
    ("end_runs", "AND t.paused_at IS NULL", "", partial(END_RUN, flags="pause", ready=False)),
    ("obey", "AND t.claim_no = g.claim_no", "", test_steer.test_a_word_that_comes_late_changes_nothing),
    ("obey", "AND t.worker = obey.worker", "", test_steer.test_a_word_that_comes_late_changes_nothing),
    ("obey", SKIP, "", test_steer.test_a_word_about_a_task_that_somebody_holds_waits_for_nobody),
    ("end_runs", "frozen_at   = NULL", "frozen_at = t.frozen_at", test_steer.test_a_task_of_a_dead_worker_stays_paused),
    ("finish", "AND u <> ALL (ahead)", "", test_finish.test_what_waits_for_a_slot_has_not_begun),
    ("finish", "AND NOT h.dead", "", test_finish.test_a_worker_that_was_given_up_writes_nothing),
    ("finish", "OR u = ANY (present)", "", test_finish.test_an_open_transaction_stops_neither_neighbours_nor_the_heartbeat),
    ("attach", "beat = h.beat + 1", "beat = h.beat", test_workers.test_who_came_back_in_between_is_not_given_up),
    ("beat", "AND NOT h.dead", "", test_workers.test_a_sign_of_life_needs_no_task),
    ("end_former", "pg_terminate_backend(a.pid)", "a.pid > 0", test_workers.test_a_new_session_takes_over_and_ends_the_old_one),
    ("attach", "AND NOT h.dead", "", test_workers.test_a_worker_that_was_given_up_cannot_come_back),
    ("attach", "PERFORM pg_advisory_lock", "PERFORM concat", test_workers.test_a_worker_holds_a_lock_for_as_long_as_its_session),
    ("give_up", "SELECT pg_try_advisory_xact_lock", "SELECT '' <> concat", test_workers.test_who_holds_its_lock_is_not_given_up),
    ("give_up", "AND h.beat = give_up.beat", "", test_workers.test_whose_beat_has_changed_is_not_given_up),
    ("take_over", "IF pg_try_advisory_xact_lock(pgmill.lock_class('worker'), former.lock_key)", "IF true",
     test_workers.test_who_holds_its_lock_is_not_taken_over),
    ("take_over", "AND f.identity = (", "AND coalesce(f.identity, '') <> (",
     partial(test_workers.test_nobody_takes_over_from_another_unit, one="unit", other="another")),
    ("rescue", SKIP, "", test_workers.test_a_rescuer_does_not_wait_for_another),
    ("rescue", "AND h.dead", "", test_workers.test_the_living_are_not_rescued),
    ("end_runs", "l.state = 'ready' AND t.unique_held", "t.unique_held",
     partial(test_keys.test_the_end_of_a_task_frees_its_key, outcome="completed", state="completed")),
    ("cancel", "unique_held = false", "unique_held = unique_held",
     test_keys.test_a_rescue_keeps_the_key_and_a_cancelled_task_frees_it),
    ("cancel", "PERFORM pgmill.call_worker", "PERFORM concat", test_steer.test_the_worker_of_what_runs_is_told_and_can_ask),
    ("cancel", "CASE WHEN paused_at IS NULL THEN 0 ELSE -1 END", "0",
     partial(test_tally.test_after_anything_the_figures_are_those_of_the_table, seed=1)),
    ("retry", "unique_held = unique_key IS NOT NULL", "unique_held = false",
     test_keys.test_retry_takes_the_key_again_unless_another_has_it),
    ("submit_keyed", "i.request <> submit_keyed.request", "false", test_keys.test_the_same_request_gets_the_same_tasks),
    ("submit_keyed", "WHEN i.tasks <> ids THEN 'same'", "ELSE 'same'",
     test_keys.test_sent_again_with_the_same_ids_it_is_still_stored),
    ("submit_keyed", "WHERE i.expires_at <= clock_timestamp()", "WHERE false", test_keys.test_an_expired_key_is_free),
    ("list", "AND t.id IS DISTINCT FROM before", "", test_list.test_newest_first_page_by_page),
    ("fold", "t.writer > 0 AND t.minute < clock_timestamp() - interval '1 hour'", "true",
     test_tally.test_what_is_written_to_is_not_folded),
    ("submit", "INSERT INTO pgmill.tallies (queue, submitted) VALUES (queue, 1)",
     "INSERT INTO pgmill.tallies AS t (writer, queue, submitted) VALUES (1, queue, 1)"
     " ON CONFLICT (writer, minute, queue) DO UPDATE SET submitted = t.submitted + 1",
     test_tally.test_open_transactions_of_clients_delay_nobody),
    ("finish", "pgmill.tell(gone || fresh)", "pgmill.tell(gone)", test_watch.test_the_life_of_a_task),
    ("tell", "w.until > clock_timestamp()", "true",
     partial(test_watch.test_without_a_lease_there_is_no_notification, end=test_watch.expire)),
    ("claim", "OR pgmill.is_quiet(worker)", "", test_admin.test_a_quiet_worker_finishes_what_it_has),
    ("wake", "LIMIT w.n", "", test_submit.test_as_many_are_told_as_there_are_tasks),
]


@pytest.mark.parametrize("function, rule, without, test", MUTANTS)
def test_without_a_rule(mill: Mill, function: str, rule: str, without: str, test: Callable[[Mill], None]) -> None:
    source = mill.value("SELECT pg_get_functiondef(%s::regproc)", f"pgmill.{function}")
    assert rule in source
    mill.db.execute(source.replace(rule, without).encode())
    with pytest.raises((AssertionError, psycopg.Error, pytest.fail.Exception)):
        test(mill)
