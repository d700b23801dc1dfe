# SPDX-License-Identifier: MIT
"""When a worker may end since nobody needs it, and which queues need one."""


from .conftest import End, Mill, Worker


def is_idle(mill: Mill, *queues: str) -> bool:
    return mill.value("SELECT pgmill.is_idle(%s)", list(queues or ["default"]))


def unserved(mill: Mill) -> list[str]:
    return mill.value("SELECT pgmill.unserved_queues()")


def test_a_queue_needs_its_workers_until_its_last_task_has_ended(mill: Mill) -> None:
    worker = mill.worker()
    assert is_idle(mill)
    mill.submit()
    assert (is_idle(mill), is_idle(mill, "mail"), is_idle(mill, "mail", "default")) == (False, True, False)
    (claim,) = worker.claim()
    worker.finish()
    assert not is_idle(mill)
    worker.finish(End(claim))
    assert is_idle(mill)


def test_a_task_for_later_needs_one_and_a_paused_one_does_not(mill: Mill) -> None:
    mill.worker()
    id = mill.submit(scheduled_at="2099-01-01")
    assert not is_idle(mill)
    mill.db.execute("SELECT pgmill.pause(%s)", [id])
    assert is_idle(mill)


def test_nobody_may_end_while_a_worker_is_dead(mill: Mill) -> None:
    worker = mill.worker()
    assert is_idle(mill)
    worker.die()
    mill.until_free(worker)
    assert not is_idle(mill)


def test_queues_with_tasks_that_no_living_worker_serves(mill: Mill) -> None:
    worker = mill.worker()  # of default
    assert unserved(mill) == []
    for queue in ("mail", "default", "b"):
        mill.submit(queue=queue)
    assert unserved(mill) == ["b", "mail"]
    worker.die()
    mill.until_free(worker)
    assert unserved(mill) == ["b", "default", "mail"]
