# SPDX-License-Identifier: MIT
"""Faults at random points, from a printed seed: pytest tests/fault --kills N --seed N repeats a run."""

import random
import time
from collections.abc import Iterator

import psycopg
import pytest

from worker.conftest import Mill, cgroup, held, mill  # noqa: F401


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=100)
    parser.addoption("--seed", type=int, default=time.time_ns() % 1_000_000)


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    return request.config.getoption("--kills")


@pytest.fixture
def dice(request: pytest.FixtureRequest) -> Iterator[random.Random]:
    seed = request.config.getoption("--seed")
    print(f"--seed {seed}")
    yield random.Random(f"{seed} {request.node.name}")


def mutate(db: psycopg.Connection, function: str, rule: str, without: str) -> None:
    """Takes a rule out of the schema, so that an oracle can show that it tells."""
    source = db.execute("SELECT pg_get_functiondef(%s::regproc)", [f"pgmill.{function}"]).fetchone()[0]
    assert rule in source
    db.execute(source.replace(rule, without).encode())
