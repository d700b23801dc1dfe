# SPDX-License-Identifier: MIT
"""The docs page in a real browser."""

import json
import pathlib
from collections.abc import Callable

import psycopg

from support.node import ROOT, node

HERE = pathlib.Path(__file__).parent


def test_the_page_shows_every_operation_and_submits_a_task(start_api: Callable, db: psycopg.Connection) -> None:
    origin = f"http://127.0.0.1:{start_api().port}"
    # Screenshots for whoever wants to look: build/docs.png, build/docs-answer.png.
    seen = json.loads(node("docs.js", origin, str(ROOT / "build/docs"), files=[HERE / "docs.js"]).stdout)

    paths = json.loads((ROOT / "src/api/web/openapi.json").read_text())["paths"]
    operations = {f"{method} {path}" for path, item in paths.items() for method in item if method != "parameters"}
    assert set(seen["operations"]) == operations
    assert seen["complaints"] == []  # its policy forbids nothing that it needs

    assert seen["answer"]["status"] == 201
    task = seen["answer"]["task"]
    assert seen["shown"] and task["id"] in seen["shown"]
    stored = db.execute("SELECT name, payload FROM pgmill.task WHERE id = %s", [task["id"]]).fetchone()
    assert stored == ("example_task", {"key": "value"})

    assert [url for url in seen["requests"] if not url.startswith(f"{origin}/")] == []
