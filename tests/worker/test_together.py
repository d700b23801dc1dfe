# SPDX-License-Identifier: MIT
"""API and workers on one database."""

import json
import statistics
import subprocess
from collections.abc import Callable

from support.process import eventually

from .conftest import Mill

TASK = {"name": "t"}


def test_the_documented_conversation_ends_completed(mill: Mill, start_api: Callable) -> None:
    mill.handler("example_task", "cat")
    mill.start()
    url = f"http://localhost:{start_api().port}/api/tasks/"

    def curl(*arguments: str) -> dict:
        return json.loads(subprocess.run(["curl", "-sS", *arguments], check=True, capture_output=True).stdout)

    id = curl("-X", "POST", url, "-H", "Content-Type: application/json", "-d",
              '{"name": "example_task", "payload": {"key": "value"}, "priority": "MEDIUM", '
              '"scheduled_at": "2023-10-01T10:00:00"}')["id"]
    task = eventually(lambda: (task := curl("-X", "GET", url + id))["status"] == "COMPLETED" and task)
    assert task["result"] == {"key": "value"}
    assert task["created_at"] <= task["started_at"] <= task["finished_at"]


def test_a_submission_wakes_a_sleeping_worker(mill: Mill, start_api: Callable) -> None:
    mill.handler("t", "true")
    mill.start()
    client = start_api().client()
    waits = []
    for _ in range(9):
        eventually(lambda: mill.db.execute("SELECT count(*) FROM pgmill.sleepers").fetchone() == (1,))
        task = mill.ended(client.post(TASK).json["id"])
        waits.append((task["started_at"] - task["created_at"]).total_seconds())
    assert statistics.median(waits) < 0.3, waits  # the poll is a second


def test_a_running_task_says_so(mill: Mill, start_api: Callable) -> None:
    mill.handler("t", "echo >>$J; sleep 1000")
    mill.start()
    client = start_api().client()
    id = client.post(TASK).json["id"]
    eventually(mill.runs)
    assert client.get(f"/api/tasks/{id}").json["status"] == "RUNNING"


def test_a_failed_task_tells_of_every_attempt(mill: Mill, start_api: Callable) -> None:
    mill.handler("t", "echo attempt $PGMILL_ATTEMPT >&2; exit 3", MaxAttempts="2")
    mill.start()
    client = start_api().client()
    id = client.post(TASK).json["id"]
    mill.ended(id, "FAILED")
    task = client.get(f"/api/tasks/{id}").json
    assert task["error"] == "exit status 3" and task["attempt"] == 2
    assert [error["stderr"] for error in task["errors"]] == ["attempt 1\n", "attempt 2\n"]
    assert client.patch(f"/api/tasks/{id}/pause", expect=409).json["detail"].startswith("The task is FAILED")


def test_the_api_gives_a_dead_workers_tasks_back_too(mill: Mill, start_api: Callable) -> None:
    """So that the last worker's death is seen before another one comes."""
    mill.handler("t", "echo >>$J; exec sleep 1000")
    start_api()
    worker = mill.start("w", "--grace", "3s")
    id = mill.submit("t")
    eventually(mill.runs)
    worker.kill()
    task = mill.until(id, "AVAILABLE", "RETRYABLE", within=30)
    assert task["errors"][0]["error"] == "worker w was lost while the task ran"
