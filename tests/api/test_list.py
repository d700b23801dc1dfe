# SPDX-License-Identifier: MIT
"""Pages of tasks, and what an operator does to one."""

import re
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from support.api import Client

TASK = {"name": "t"}


def pages(api: Client, query: str = "") -> list[list[dict[str, Any]]]:
    """Follows the Link headers."""
    path, found = f"/api/tasks/?{query}", []
    while path:
        answer = api.get(path)
        found.append(answer.json["tasks"])
        link = re.fullmatch(r'<(.*)>; rel="next"', answer.headers.get("Link", ""))
        path = link and link[1]
        assert bool(path) == bool(answer.json["next"]) and (not path or answer.json["next"] in path)
    return found


def test_pages_have_every_task_once_newest_first(api: Client) -> None:
    ids = [api.post(TASK).json["id"] for _ in range(25)]
    found = pages(api, "limit=10")
    assert [len(page) for page in found] == [10, 10, 5]
    assert [task["id"] for page in found for task in page] == ids[::-1]


def test_a_page_goes_on_where_the_last_one_ended_although_tasks_arrive(api: Client) -> None:
    ids = [api.post(TASK).json["id"] for _ in range(4)]
    first = api.get("/api/tasks/?limit=2").json
    api.post(TASK)
    second = api.get(f"/api/tasks/?limit=2&cursor={first['next']}").json
    assert [task["id"] for task in first["tasks"] + second["tasks"]] == ids[::-1]


def test_a_page_is_bounded_since_it_leaves_out_what_is_long(api: Client) -> None:
    api.post({"name": "t", "payload": "x" * 1000})
    (task,), = pages(api)
    assert task.keys().isdisjoint({"payload", "result", "errors"}) and task["name"] == "t"


def test_filters(api: Client) -> None:
    a = api.post({"name": "a", "queue": "mail", "priority": "HIGH", "tags": ["red", "blue"]}).json
    b = api.post({"name": "b", "scheduled_at": "2999-01-01T00:00:00Z"}).json
    api.patch(f"/api/tasks/{a['id']}/pause")
    for query, expect in {
        "status=PAUSED": [a], "status=scheduled,paused": [b, a], "status=COMPLETED": [], "queue=mail": [a],
        "queue=default": [b], "name=b": [b], "priority=high": [a], "tag=blue": [a], "tag=green": [],
        f"created_after={a['created_at']}": [b], f"created_before={b['created_at']}": [a],
        "queue=mail&name=b": [], f"created_after={quote('2020-01-01T00:00:00+02:00')}": [b, a],
    }.items():
        found = [task["id"] for page in pages(api, query) for task in page]
        assert found == [task["id"] for task in expect], query


@pytest.mark.parametrize("query, field", [
    ("status=DONE", "status"), ("status=", "status"), ("queue=-", "queue"), ("name=a/b", "name"), ("priority=1", "priority"),
    ("tag=", "tag"), ("created_after=yesterday", "created_after"), ("created_before=2023-13-01", "created_before"),
    ("limit=0", "limit"), ("limit=1001", "limit"), ("limit=x", "limit"), ("cursor=7", "cursor"), ("colour=red", "colour"),
    ("limit=1&limit=2", "limit"), ("name=%zz", "name"), ("name=%ff", "name"), ("name=%00", "name"),
])
def test_a_wrong_query_is_named(api: Client, query: str, field: str) -> None:
    assert api.get(f"/api/tasks/?{query}", 422).fields == [field]


# ---- cancel and retry ----


def test_a_waiting_task_is_cancelled_at_once_and_can_be_tried_again(api: Client) -> None:
    path = f"/api/tasks/{api.post(TASK).json['id']}"
    cancelled = api.patch(f"{path}/cancel").json
    assert cancelled["status"] == "CANCELLED" and cancelled["finished_at"]
    assert api.patch(f"{path}/pause", 409).json["type"].endswith("#task-ended")
    again = api.patch(f"{path}/retry").json
    assert again["status"] == "AVAILABLE" and again["finished_at"] is None


def test_a_retry_makes_a_task_of_the_future_due_now(api: Client) -> None:
    path = f"/api/tasks/{api.post(TASK | {'scheduled_at': '2999-01-01T00:00:00Z'}).json['id']}"
    assert api.patch(f"{path}/retry").json["status"] == "AVAILABLE"
    assert api.patch(f"{path}/retry").json["status"] == "AVAILABLE"


def test_what_is_completed_stays_so(api: Client, db: psycopg.Connection) -> None:
    id = api.post(TASK).json["id"]
    db.execute("UPDATE pgmill.tasks SET state = 'completed', ready = false, finished_at = now() WHERE id = %s", [id])
    for verb in ("pause", "resume", "cancel", "retry"):
        assert api.patch(f"/api/tasks/{id}/{verb}", 409).json["type"].endswith("#task-ended")


@pytest.mark.parametrize("verb", ["pause", "resume", "cancel", "retry"])
def test_nobody_steers_what_is_not_there(api: Client, verb: str) -> None:
    api.patch(f"/api/tasks/01900000-0000-7000-8000-000000000000/{verb}", 404)
    assert api.patch(f"/api/tasks/7/{verb}", 422).fields == ["id"]


def test_the_log_of_a_task_that_wrote_nothing_is_empty(api: Client) -> None:
    answer = api.get(f"/api/tasks/{api.post(TASK).json['id']}/log")
    assert answer.body == b"" and answer.headers["Content-Type"].startswith("text/plain")
    api.get("/api/tasks/01900000-0000-7000-8000-000000000000/log", 404)


def test_a_parameter_may_be_spelt_in_any_encoding_and_a_list_in_pieces(api: Client) -> None:
    ids = {status: api.post(TASK).json["id"] for status in ("PAUSED", "CANCELLED", "AVAILABLE")}
    api.patch(f"/api/tasks/{ids['PAUSED']}/pause")
    api.patch(f"/api/tasks/{ids['CANCELLED']}/cancel")
    for query in ("status=PAUSED,CANCELLED", "status=PAUSED&status=CANCELLED", "st%61tus=PAUSED%2CCANCELLED",
                  "%73%74atus=paused&limit=1&status=cancelled"):
        found = [task["id"] for page in pages(api, query) for task in page]
        assert found == [ids["CANCELLED"], ids["PAUSED"]], query
    assert api.get("/api/tasks/?queue=a&queue=b", 422).fields == ["queue"]
    assert api.get("/api/tasks/?%6cimit=1&limit=2", 422).fields == ["limit"]
    assert api.get("/api/tasks/?lim%zzit=1", 422).json["detail"].endswith("is not percent-encoded UTF-8")
    assert api.get("/api/tasks/?status=PAUSED&status=NONE", 422).fields == ["status"]
