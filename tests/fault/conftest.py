# SPDX-License-Identifier: MIT
"""Faults at random points, from a printed seed: pytest tests/fault --kills N --seed N repeats a run."""

import random
import time
from collections.abc import Iterator

import pytest

from worker.conftest import Mill, mill  # noqa: F401


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
