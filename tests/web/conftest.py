# SPDX-License-Identifier: MIT
import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--requests", type=int, default=1500, help="how many a seed of test_requests.py makes")
    parser.addoption("--seed", type=int, help="for test_requests.py, instead of the fixed one and a random one")
