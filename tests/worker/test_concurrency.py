# SPDX-License-Identifier: MIT
"""How many run at once: of all, of one handler, of one queue."""

import signal

from support.process import eventually

from .conftest import Mill

RUN = 'echo "start $PGMILL_NAME" >>$J; sleep 0.1; echo "end $PGMILL_NAME" >>$J'


def most_at_once(mill: Mill, name: str = "") -> int:
    now = most = 0
    for line in mill.runs():
        what, of = line.split()
        now += {"start": 1, "end": -1}[what] if of == name or not name else 0
        most = max(most, now)
    return most


def test_a_handler_runs_no_more_than_it_may_and_delays_nobody(mill: Mill) -> None:
    mill.handler("narrow", RUN, Concurrency="1")
    mill.handler("wide", RUN)
    ids = [mill.submit(name) for name in ["narrow"] * 8 + ["wide"] * 8]
    mill.start("w", "--concurrency", "4")
    for id in ids:
        mill.ended(id)
    assert most_at_once(mill, "narrow") == 1
    assert most_at_once(mill) > 2
    # The first of those that stood behind did not wait for all in front.
    assert mill.runs().index("start wide") < 4


def test_room_for_the_next_one_is_used_at_once(mill: Mill) -> None:
    mill.handler("narrow", "true", Concurrency="1")
    mill.start("w", "--concurrency", "4")
    ids = [mill.submit("narrow") for _ in range(10)]
    tasks = [mill.ended(id) for id in ids]
    waits = sorted((b["started_at"] - a["finished_at"]).total_seconds() for a, b in zip(tasks, tasks[1:]))
    assert waits[len(waits) // 2] < 0.5, waits  # the poll is a second


def test_a_queue_runs_no_more_than_its_limit_and_the_next_at_once(mill: Mill) -> None:
    mill.handler("t", RUN)
    mill.db.execute("INSERT INTO pgmill.queues (name, max_running) VALUES ('default', 1)")
    for name in ("one", "two"):
        mill.start(name)
    ids = [mill.submit("t") for _ in range(10)]
    tasks = sorted((mill.ended(id) for id in ids), key=lambda task: task["started_at"])
    assert most_at_once(mill) == 1
    waits = sorted((b["started_at"] - a["finished_at"]).total_seconds() for a, b in zip(tasks, tasks[1:]))
    assert waits[len(waits) // 2] < 0.5, waits


def test_what_a_reload_took_the_handler_of_is_left_to_others(mill: Mill) -> None:
    mill.handler("stays", RUN)
    conf = mill.handler("goes", RUN)
    worker = mill.start()
    mill.ended(mill.submit("goes"))
    conf.unlink()
    worker.signal(signal.SIGHUP)
    worker.wait_log("Read 1 handler")
    id = mill.submit("goes")
    mill.ended(mill.submit("stays"))
    assert (mill.show(id)["status"], mill.show(id)["attempt"]) == ("AVAILABLE", 0)
    mill.start("heir", "--tasks", str(mill.tasks))
    mill.handler("goes", RUN)
    worker.signal(signal.SIGHUP)
    mill.ended(id)
    eventually(lambda: mill.runs().count("end goes") == 2)
