# SPDX-License-Identifier: MIT
"""Claims that the database forgets in a crash, and such whose answer is lost. Handlers append to a file how often each ran."""

import os
import pathlib
import random
import signal
import struct
import uuid
from collections import Counter
from collections.abc import Callable

import psycopg
import pytest

from support.cluster import Cluster
from support.process import Process, eventually
from support.proxy import CLIENT, SERVER, Proxy
from worker.conftest import Mill

from .conftest import mutate
from .test_kills import lines, prepare


def starts(mill: Mill) -> Counter[str]:
    return Counter(id for what, id, *_ in lines(mill) if what == "start")


def check(mill: Mill, ids: list[uuid.UUID], within: float = 60) -> None:
    """Each task ran once, and nothing else did."""
    for id in ids:
        assert mill.ended(id, within=within)["attempt"] == 1
    assert [line for line in lines(mill) if line[0] == "overlap"] == []
    assert starts(mill) == Counter(map(str, ids))


# ---- forgotten ----


def connected(url: str) -> psycopg.Connection | None:
    try:
        return psycopg.connect(url, autocommit=True)
    except psycopg.OperationalError:
        return None


def crash(mill: Mill, url: str) -> None:
    """A server process dies, and the server begins anew with what it had written: all others are ended at once."""
    with psycopg.connect(url) as victim:
        os.kill(victim.info.backend_pid, signal.SIGKILL)
        with pytest.raises(psycopg.OperationalError):
            while True:
                mill.db.execute("SELECT 1")
        mill.db = eventually(lambda: connected(url), within=60)


@pytest.fixture
def brittle(own_cluster: Cluster, wires: Callable[[str], Proxy], run: Callable[..., Process],
            folder: pathlib.Path) -> tuple[Mill, Proxy, str]:
    """A server that writes nothing by itself for a while, and two workers that reach it through a wire."""
    own_cluster.configure(wal_writer_delay="10s")
    url = own_cluster.fresh()
    wire = wires(url)
    (folder / "here").mkdir()
    mill = Mill(run, wire.url, psycopg.connect(url, autocommit=True), folder / "here")
    prepare(mill)
    return mill, wire, url


def forget(mill: Mill, wire: Proxy, url: str, dice: random.Random, crashes: int) -> None:
    """The crash comes between a claim and its proof, or when the program has begun."""
    _, other = mill.start("one"), mill.start("two")
    ids, forgotten = [], 0
    for n in range(crashes):
        proof = n % 2 == 0 and wire.trap(CLIENT, lambda kind, body: kind == "B" and b"\0finish\0" in body)
        other.signal(signal.SIGSTOP)  # its commits would write the claim as well
        ids.append(id := mill.submit("t"))
        if proof:
            proof.wait()
            mill.until(id, "RUNNING")
        else:
            eventually(lambda: str(id) in starts(mill), within=60)
        wire.target = "/nowhere"
        crash(mill, url)
        forgotten += bool(proof and mill.show(id)["status"] == "AVAILABLE")
        if proof:
            proof.release()
        other.signal(signal.SIGCONT)
        wire.lead_to(url)
        if dice.random() < 0.5:
            mill.until(id, "COMPLETED", within=60)
    print(f"{forgotten} of {len(ids)} claims forgotten")
    assert forgotten > 0
    check(mill, ids)
    mill.db.close()


@pytest.mark.long
def test_no_program_begins_on_a_claim_that_a_crash_forgets(
        brittle: tuple[Mill, Proxy, str], dice: random.Random, kills: int) -> None:
    forget(*brittle, dice, max(kills // 4, 2))


@pytest.mark.long
def test_handlers_tell_of_a_proof_that_was_none(brittle: tuple[Mill, Proxy, str], dice: random.Random) -> None:
    """A mutant: what a worker commits, proofs above all, does not wait for the disk."""
    brittle[0].db.execute("""CREATE FUNCTION pgmill.hurry() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM set_config('synchronous_commit', 'off', true); RETURN NULL; END $$;
        CREATE TRIGGER hurry AFTER UPDATE ON pgmill.heartbeats EXECUTE FUNCTION pgmill.hurry();
        CREATE TRIGGER hurry AFTER INSERT OR DELETE ON pgmill.sleepers EXECUTE FUNCTION pgmill.hurry()""")
    with pytest.raises(AssertionError):
        forget(*brittle, dice, 6)


# ---- lost ----


@pytest.fixture
def far(database: str, run: Callable[..., Process], db: psycopg.Connection, folder: pathlib.Path,
        wires: Callable[[str], Proxy]) -> tuple[Mill, Proxy]:
    wire = wires(database)
    mill = Mill(run, wire.url, db, folder)
    prepare(mill)
    return mill, wire


def lose(mill: Mill, wire: Proxy, times: int, within: float = 60) -> None:
    """Nothing but the worker itself, which lives, can find out that it has the task."""
    mill.start("w", "--grace", "1h")
    ids = []
    for _ in range(times):
        claimed = wire.trap(SERVER, lambda kind, body: kind == "D" and struct.unpack("!HI", body[:6]) == (4, 36))
        ids.append(id := mill.submit("t"))
        claimed.wait()
        mill.until(id, "RUNNING")
        claimed.cut()
        mill.until(id, "COMPLETED", within=within)
    check(mill, ids)


@pytest.mark.long
def test_a_claim_whose_answer_is_lost_is_made_again(far: tuple[Mill, Proxy], kills: int) -> None:
    lose(*far, max(kills // 5, 1))


def test_a_task_that_its_worker_does_not_know_of_is_told(far: tuple[Mill, Proxy]) -> None:
    """A mutant: a new session begins without what the former one held."""
    mutate(far[0].db, "attach", "beat = h.beat + 1", "beat = h.beat + 1, held = '{}', started = 0")
    with pytest.raises(AssertionError):
        lose(*far, 1, within=5)
