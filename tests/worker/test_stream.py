# SPDX-License-Identifier: MIT
"""Mode=stream: a co-process that is given many tasks, and what becomes of them when it misbehaves."""

import pathlib
import signal

import pytest

from support.process import alive, eventually

from .conftest import Mill

CO = pathlib.Path(__file__).with_name("co.py")


def stream(mill: Mill, name: str = "t", **keys: str) -> None:
    keys = {"Exec": f"/usr/bin/python3 {CO}", "Backoff": "100ms"} | keys
    mill.conf(name, Mode="stream", **keys)


def pid_of(mill: Mill) -> int:
    return mill.ended(mill.submit("t", '"pid"'))["result"]


def test_one_process_is_given_all_the_tasks(mill: Mill) -> None:
    stream(mill)
    mill.start("w", "--concurrency", "8")
    ids = [mill.submit("t", '"pid"') for _ in range(40)]
    assert len({mill.ended(id)["result"] for id in ids}) == 1


def test_it_is_told_what_the_task_is(mill: Mill) -> None:
    stream(mill)
    mill.start("w", "--queues", "mail")
    id = mill.submit("t", '"message"', queue="mail")
    told = {"task": str(id), "name": "t", "queue": "mail", "attempt": 1, "payload": "message"}
    assert mill.ended(id)["result"] == told


@pytest.mark.parametrize("value", ['{"a": [1, "ü\\n"]}', "null", "9007199254740993", '"' + "x" * 900_000 + '"'],
                         ids=["object", "null", "number", "large"])
def test_results_come_back(mill: Mill, value: str) -> None:
    stream(mill)
    mill.start()
    id = mill.submit("t", f'{{"echo": {value}}}')
    mill.ended(id)
    query = "SELECT result = (payload -> 'echo') FROM pgmill.task WHERE id = %s"
    assert mill.db.execute(query, [id]).fetchone() == (True,)


@pytest.mark.parametrize("more, attempts, status", [
    ("", 2, "FAILED"), (', "retry": false', 1, "FAILED"), (', "retry": 0.1', 2, "FAILED"),
    (', "retry": 3600', 1, "RETRYABLE"),
])
def test_an_error_is_tried_again_as_it_says(mill: Mill, more: str, attempts: int, status: str) -> None:
    stream(mill, MaxAttempts="2", Backoff="10ms")
    mill.start()
    task = mill.until(mill.submit("t", '{"error": "no"%s}' % more), status)
    eventually(lambda: mill.show(task["id"])["attempt"] == attempts)
    assert mill.show(task["id"])["error"] == "no"


def test_many_are_in_flight_and_no_more_than_concurrency(mill: Mill) -> None:
    stream(mill, Concurrency="3")
    mill.start("w", "--concurrency", "8")
    for _ in range(6):
        mill.submit("t", '"hold"')
    query = "SELECT count(*) FROM pgmill.task WHERE status = 'RUNNING'"
    eventually(lambda: mill.db.execute(query).fetchone() == (3,))


# ---- dying ----


@pytest.mark.parametrize("how, error", [
    ('"die"', "the co-process was ended by signal 9 (Killed)"),
    ('"exit"', "the co-process ended with exit status 3"),
    ('"half"', "the co-process ended with exit status 0, in the middle of a line"),
    ('{"raw": "what\\n"}', "the co-process was ended: a line of it is no answer: it is no JSON object: what"),
    ('{"raw": "[]\\n"}', "the co-process was ended: a line of it is no answer: it is no JSON object: []"),
    ('{"raw": "{}\\n"}', 'the co-process was ended: a line of it is no answer: it has no "task": {}'),
    ('{"raw": "\\n"}', "the co-process was ended: a line of it is no answer: it is no JSON object: "),
    ('{"flood": 2000000}', "the co-process was ended: a line of it is over 1048576 bytes"),
    ('"strays"', "the co-process was ended: it answered 100 times about tasks it does not have"),
    ('"close"', "the co-process was ended: it closed its standard input or output"),
])
def test_what_ends_it_is_told_and_the_next_one_goes_on(mill: Mill, how: str, error: str) -> None:
    stream(mill, MaxAttempts="1")
    mill.start()
    first = pid_of(mill)
    held = mill.submit("t", '"hold"')
    mill.until(held, "RUNNING")
    assert mill.ended(mill.submit("t", how), "FAILED")["error"].startswith(error)
    assert mill.ended(held, "FAILED")["error"].startswith(error)  # nobody knows whose fault it was
    assert pid_of(mill) != first and not alive(first)


def test_an_answer_that_the_database_does_not_take_is_kept_as_text(mill: Mill) -> None:
    stream(mill)
    mill.start()
    first = pid_of(mill)
    task = mill.ended(mill.submit("t", '{"raw": "{\\"task\\": \\"ID\\", \\"result\\": \\"\\\\u0000\\"}\\n"}'))
    assert task["result"] == '"\\u0000"' and task["result_note"].startswith("kept as text, since")
    assert (task["attempt"], pid_of(mill)) == (1, first)


def test_an_answer_twice_is_logged_and_does_no_harm(mill: Mill) -> None:
    stream(mill)
    worker = mill.start()
    id = mill.submit("t", '"twice"')
    assert mill.ended(id)["result"] == 1
    worker.wait_log(f"answers about task {id}, which it does not have")
    pid_of(mill)


def test_it_is_restarted_with_growing_pauses_and_only_when_there_is_work(mill: Mill) -> None:
    stream(mill, MaxAttempts="1")
    mill.start("w", "--concurrency", "1")
    ids = [mill.submit("t", '"exit"') for _ in range(4)]
    for id in ids:
        mill.ended(id, "FAILED")
    ends = [mill.show(id)["finished_at"] for id in ids]
    assert (ends[3] - ends[2]).total_seconds() > 0.2  # half of 400 ms, at least
    pid_of(mill)


def test_what_it_wrote_last_is_kept_with_the_tasks_it_had(mill: Mill) -> None:
    stream(mill, MaxAttempts="1")
    worker = mill.start()
    held, crying = mill.submit("t", '"hold"'), None
    mill.until(held, "RUNNING")
    crying = mill.submit("t", '{"cry": "one\\n<3>two\\nhalf"}')
    for id in held, crying:
        assert mill.ended(id, "FAILED")["errors"][0]["stderr"] == "one\n<3>two\nhalf"
    worker.wait_log("t: one\n")
    worker.wait_log("t: error: two\n")
    worker.wait_log("t: half\n")
    again = mill.submit("t", '"die"')
    assert "stderr" not in mill.ended(again, "FAILED")["errors"][0]  # that was another process


# ---- being renewed ----


def test_one_that_ends_with_status_0_fails_none(mill: Mill) -> None:
    stream(mill, MaxAttempts="1")
    worker = mill.start()
    held = mill.submit("t", '"hold"')
    mill.until(held, "RUNNING")
    pids = [mill.ended(mill.submit("t", '"leave"'))["result"] for _ in range(3)]
    assert len(set(pids)) == 3
    worker.wait_log("ended with exit status 0; what it has not answered goes back")
    assert mill.until(held, "RUNNING")["attempt"] == 1 and mill.show(held)["errors"] == []


def test_one_that_ends_without_an_answer_each_time_is_put_off_and_not_for_ever(mill: Mill) -> None:
    stream(mill, MaxAttempts="1", DeferMax="2")
    mill.start()
    task = mill.ended(mill.submit("t", '"swallow"'), "FAILED")
    assert task["attempt"] == 1 and task["error"] == "the co-process ended with exit status 0"


def test_it_is_renewed_after_so_many_tasks(mill: Mill) -> None:
    stream(mill, RecycleAfter="tasks:3")
    worker = mill.start("w", "--concurrency", "1")
    pids = [pid_of(mill) for _ in range(7)]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 1]
    worker.wait_log("t: bye\n")  # it saw the end of its input


def test_what_it_has_when_it_is_renewed_is_answered_while_the_next_one_goes_on(mill: Mill) -> None:
    stream(mill, RecycleAfter="tasks:2", KillGrace="1h")
    worker = mill.start()
    first = pid_of(mill)
    slow = mill.submit("t", '{"slow": 2}')
    worker.wait_log("begun")
    assert pid_of(mill) != first  # which is still at work
    assert mill.show(slow)["status"] == "RUNNING"
    assert mill.ended(slow)["result"] == first


@pytest.mark.parametrize("bound", ["time:1s", "memory:200M"])
def test_it_is_renewed_after_a_time_and_when_it_has_grown(held: Mill, bound: str) -> None:
    stream(held, RecycleAfter=bound)
    worker = held.start()
    first = held.ended(held.submit("t", '{"eat": 300000000}'))["result"]
    worker.wait_log("t: bye\n")
    eventually(lambda: not alive(first))
    assert pid_of(held) != first


def test_a_renewed_one_that_does_not_end_is_killed_and_fails_none(mill: Mill) -> None:
    stream(mill, RecycleAfter="tasks:1", KillGrace="100ms", MaxAttempts="1")
    mill.start()
    first = mill.ended(mill.submit("t", '"stay"'))["result"]
    eventually(lambda: not alive(first))
    pid_of(mill)


def test_a_drain_waits_for_a_renewed_one(mill: Mill) -> None:
    stream(mill, RecycleAfter="tasks:1")
    worker = mill.start()
    slow = mill.submit("t", '{"slow": 1}')
    worker.wait_log("begun")
    assert worker.stop() == 0
    assert mill.show(slow)["status"] == "COMPLETED"


# ---- cancel, timeout ----


def test_cancelling_asks_and_the_others_go_on(mill: Mill) -> None:
    stream(mill)
    mill.start()
    pid = pid_of(mill)
    ids = [mill.submit("t", '"hold"') for _ in range(2)]
    for id in ids:
        mill.until(id, "RUNNING")
    mill.db.execute("SELECT pgmill.cancel(%s)", [ids[0]])
    assert mill.ended(ids[0], "CANCELLED", within=4)["error"] == "cancelled"
    assert mill.show(ids[1])["status"] == "RUNNING" and pid_of(mill) == pid


def test_one_that_does_not_listen_takes_the_process_with_it_and_blames_nobody_else(mill: Mill) -> None:
    stream(mill, MaxAttempts="1")
    mill.start()
    pid = pid_of(mill)
    deaf, held = mill.submit("t", '"deaf"', timeout="300 ms"), mill.submit("t", '"hold"')
    assert mill.ended(deaf, "FAILED")["error"] == "timed out after 0.3 s"
    eventually(lambda: not alive(pid))
    assert mill.until(held, "RUNNING")["errors"] == []
    assert mill.show(held)["attempt"] == 1 and pid_of(mill) != pid


def test_pausing_a_running_one_is_refused(mill: Mill) -> None:
    stream(mill)
    mill.start()
    id = mill.submit("t", '"hold"')
    mill.until(id, "RUNNING")
    assert mill.db.execute("SELECT pgmill.pause(%s)", [id]).fetchone()[0] == "asked"
    query = "SELECT paused_at IS NULL FROM pgmill.tasks WHERE id = %s"
    eventually(lambda: mill.db.execute(query, [id]).fetchone()[0])  # the worker took the wish back
    assert mill.show(id)["status"] == "RUNNING"


def test_over_rest_the_answer_says_why_it_cannot_be_paused(mill: Mill, start_api) -> None:
    stream(mill)
    mill.conf("sql", Mode="sql", Sql="SELECT length(pg_sleep(600)::text)")
    mill.start()
    client = start_api().client()
    for id in mill.submit("t", '"hold"'), mill.submit("sql"):
        mill.until(id, "RUNNING")
        answer = client.patch(f"/api/tasks/{id}/pause", expect=409)
        assert "does not let it stand still" in answer.json["detail"]
        mill.db.execute("SELECT pgmill.cancel(%s)", [id])
        mill.ended(id, "CANCELLED")


# ---- the worker's end, reload ----


def test_a_drained_worker_leaves_nothing(mill: Mill) -> None:
    stream(mill)
    worker = mill.start()
    pid = pid_of(mill)
    id = mill.submit("t", '{"slow": 1}')
    worker.wait_log("begun")  # RUNNING comes before
    assert worker.stop() == 0
    assert mill.show(id)["status"] == "COMPLETED" and not alive(pid)


def test_an_idle_one_is_told_to_end_when_its_worker_drains(mill: Mill) -> None:
    stream(mill)
    worker = mill.start()
    pid = pid_of(mill)
    assert worker.stop() == 0
    assert "t: bye\n" in worker.log and not alive(pid)


def test_one_that_does_not_end_is_killed_after_its_grace(mill: Mill) -> None:
    stream(mill, KillGrace="1s")
    worker = mill.start()
    pid = mill.ended(mill.submit("t", '"stay"'))["result"]
    worker.signal(signal.SIGTERM)
    worker.wait_log("t: bye\n")
    assert alive(pid)
    assert worker.wait() == 0 and not alive(pid)


def test_a_drain_gives_back_what_the_process_has_not_been_given(mill: Mill) -> None:
    stream(mill)
    worker = mill.start()
    busy = mill.submit("t", '{"slow": 3}')
    worker.wait_log("begun")
    large = [mill.submit("t", '{"echo": "%s"}' % ("x" * 900_000)) for _ in range(2)]  # a pipe takes less than one
    for id in large:
        worker.wait_log(f"t {id}: Attempt 1 of 3 begins")
    worker.signal(signal.SIGTERM)
    mill.until(large[1], "AVAILABLE", within=2)
    assert worker.wait() == 0
    assert [mill.show(id)["status"] for id in (busy, *large)] == ["COMPLETED", "COMPLETED", "AVAILABLE"]
    assert mill.show(large[1])["attempt"] == 0


def test_a_killed_workers_process_ends_with_it(mill: Mill) -> None:
    stream(mill)
    worker = mill.start()
    pid = pid_of(mill)
    worker.kill()
    eventually(lambda: not alive(pid))


def test_a_reload_starts_a_new_one_and_lets_the_old_one_finish(mill: Mill) -> None:
    stream(mill)
    worker = mill.start()
    old = pid_of(mill)
    slow = mill.submit("t", '{"slow": 2}')
    worker.wait_log("begun")  # RUNNING comes before
    stream(mill, Timeout="1h")
    worker.signal(signal.SIGHUP)
    worker.wait_log("Read 1 handler")
    assert pid_of(mill) != old
    assert mill.ended(slow)["result"] == old
    eventually(lambda: not alive(old))
