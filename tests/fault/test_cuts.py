# SPDX-License-Identifier: MIT
"""The wire between API and database is cut at a random message, of either side. What clients were told, and what handlers
append to a file, tell how often something was stored and run."""

import contextlib
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from support.api import Client
from support.process import eventually
from support.proxy import CLIENT, SERVER, Proxy
from worker.conftest import Mill

from .conftest import mutate


@contextlib.contextmanager
def cutter(wire: Proxy) -> Iterator[None]:
    """Whatever stands in a trap is cut off."""
    def cut() -> None:
        while not over.wait(0.005):
            for trap in list(wire.traps):
                if trap.caught.is_set() and not trap.free.is_set():
                    trap.cut()

    over = threading.Event()
    thread = threading.Thread(target=cut)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def post(client: Client, key: str) -> str | None:
    """The id that the client was told, if any."""
    answer = client.post({"name": "t"}, expect=None, **{"Idempotency-Key": key})
    assert answer.status in (200, 201, 409, 503), answer
    return answer.json["id"] if answer.status in (200, 201) else None


def cut(mill: Mill, start_api: Callable, wires: Callable[[str], Proxy], dice: random.Random, cuts: int) -> None:
    mill.handler("t", "echo start $PGMILL_TASK $$ >>$J; echo end $PGMILL_TASK $$ >>$J")
    mill.start()
    wire = wires(mill.database)
    client = start_api(wire.url).client()
    told: dict[str, set[str]] = {}
    caught = 0
    with cutter(wire):
        for n in range(cuts):
            left = [dice.randrange(1, 12)]

            def match(kind: str, body: bytes) -> bool:
                left[0] -= 1
                return left[0] == 0

            trap = wire.trap(dice.choice((CLIENT, SERVER)), match)
            told[f"k{n}"] = set()
            while not told[f"k{n}"] or dice.random() < 0.3:
                answer = post(client, f"k{n}")
                if answer is not None:
                    told[f"k{n}"].add(answer)
            caught += trap.caught.is_set()
    assert caught > 0
    assert [ids for ids in told.values() if len(ids) != 1] == []
    stored = {next(iter(ids)) for ids in told.values()}
    assert len(stored) == len(told)

    def ended() -> Counter[str]:
        return Counter(line.split()[1] for line in mill.runs() if line.startswith("end"))

    eventually(lambda: set(ended()) >= stored, within=60)
    assert set(ended()) == stored and max(ended().values()) == 1 and mill.overlaps() == 0


def test_a_key_is_one_task_wherever_the_wire_is_cut(
        mill: Mill, start_api: Callable, wires: Callable[[str], Proxy], dice: random.Random, kills: int) -> None:
    cut(mill, start_api, wires, dice, max(kills // 2, 1))


def test_clients_and_handlers_tell_of_a_key_that_was_forgotten(
        mill: Mill, start_api: Callable, wires: Callable[[str], Proxy], dice: random.Random) -> None:
    """A mutant: each request takes the keys before it for expired."""
    mutate(mill.db, "submit_keyed", "WHERE i.expires_at <= clock_timestamp()", "WHERE true")
    with pytest.raises(AssertionError):
        cut(mill, start_api, wires, dice, 20)
