# SPDX-License-Identifier: MIT
"""The API and a database that is there and does not do as asked: read-only, full, cut off from its standby."""

import pathlib
import threading
import uuid
from collections.abc import Callable

import psycopg
import pytest

from support.api import Answer, Client
from support.cluster import Cluster
from support.pooler import pooler
from support.process import Process, eventually
from support.proxy import Proxy

TASK = {"name": "example_task"}


class Request(threading.Thread):
    """One that is under way; `answer` comes when it comes."""

    def __init__(self, port: int, method: str, path: str, body: object = None, **headers: str) -> None:
        super().__init__(daemon=True)
        self.client, self.arguments, self.headers = Client(port, timeout=120), (method, path, body), headers
        self.answer: Answer | None = None
        self.start()

    def run(self) -> None:
        self.answer = self.client.send(*self.arguments, **self.headers)

    def wait(self) -> Answer:
        self.join(60)
        assert self.answer, "no answer"
        return self.answer


def test_a_read_only_server_is_left_and_told(own_cluster: Cluster, start_api: Callable) -> None:
    api = start_api(own_cluster.fresh())
    client = api.client()
    own_cluster.configure(default_transaction_read_only="on")
    client.post(TASK, expect=503)
    eventually(lambda: client.get("/readyz", expect=None).status == 503)
    client.post(TASK, expect=503)
    assert "The database is back" not in api.process.log
    own_cluster.configure(default_transaction_read_only="off")
    eventually(lambda: client.post(TASK, expect=None).status == 201)
    eventually(lambda: client.get("/readyz", expect=None).status == 200)
    api.process.wait_log("The database is back")
    assert api.process.log.count("Answering 503") == 1


def test_a_server_that_is_read_only_from_the_beginning_is_no_server(own_cluster: Cluster, start_api: Callable) -> None:
    url = own_cluster.fresh()
    own_cluster.configure(default_transaction_read_only="on")
    api = start_api(url, wait=False)
    api.process.wait_log("takes no writes")
    api.client().get("/readyz", expect=503)
    own_cluster.configure(default_transaction_read_only="off")
    api.process.ready()
    api.client().get("/readyz", expect=200)
    api.client().post(TASK)


FULL = """
    CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN RAISE disk_full USING MESSAGE = 'could not extend file: No space left on device'; END $$;
    CREATE TRIGGER full_disk BEFORE INSERT ON pgmill.tasks FOR EACH ROW EXECUTE FUNCTION full_disk()"""


@pytest.mark.parametrize("traffic", [True, False])
def test_ready_means_that_a_submission_would_be_stored(
        start_api: Callable, db: psycopg.Connection, traffic: bool) -> None:
    api = start_api()
    client = api.client()
    id = client.post(TASK).json["id"]
    db.execute(FULL)
    if traffic:
        client.post(TASK, expect=503)
    eventually(lambda: client.get("/readyz", expect=None).status == 503, within=30)
    api.process.wait_log("submissions are not stored: could not extend file: No space left on device")
    client.get(f"/api/tasks/{id}")
    db.execute("DROP TRIGGER full_disk ON pgmill.tasks")
    eventually(lambda: client.get("/readyz", expect=None).status == 200)
    client.post(TASK)
    assert api.process.log.count("not stored") == 1
    assert db.execute("SELECT count(*) FROM pgmill.tasks").fetchone() == (2,)  # none of them is a rehearsal


WAITING = "SELECT pid, query_start FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query ~ '%s'"


class Cut:
    """A cluster whose commits wait for a standby that is not there."""

    def __init__(self, cluster: Cluster, port: int) -> None:
        self.cluster, self.port = cluster, port
        cluster.configure(synchronous_standby_names="elsewhere")

    def waiting(self, query: str) -> set[tuple[int, object]]:
        return set(self.cluster.admin.execute(WAITING % query).fetchall())

    def request(self, query: str, *arguments: object, **headers: str) -> Request:
        """One that waits. The first ones may come before the server has read its settings."""
        while True:
            request = Request(self.port, *arguments, **headers)  # type: ignore[arg-type]
            eventually(lambda: request.answer or self.waiting(query))
            if not request.answer:
                return request

    def end(self, how: str, query: str) -> None:
        """Until it is sent again, and waits once more."""
        first = self.waiting(query)
        for pid, _ in first:
            self.cluster.admin.execute(f"SELECT {how}(%s)", [pid])
        eventually(lambda: self.waiting(query) - first)

    def mend(self) -> None:
        self.cluster.configure(synchronous_standby_names="")


@pytest.mark.parametrize("keyed", [False, True], ids=["plain", "keyed"])
@pytest.mark.parametrize("end", ["pg_terminate_backend", "pg_cancel_backend"])
def test_what_is_sent_again_waits_for_the_standby_too(
        own_cluster: Cluster, start_api: Callable, end: str, keyed: bool) -> None:
    """The first sending is stored here, and would be gone with this server."""
    api = start_api(own_cluster.fresh())
    cut = Cut(own_cluster, api.port)
    request = cut.request("submit_", "POST", "/api/tasks/", TASK, **({"Idempotency_Key": str(uuid.uuid4())} if keyed else {}))
    cut.end(end, "submit_")
    assert not request.answer, (request.answer.status, request.answer.body)
    cut.mend()
    answer = request.wait()
    assert answer.status in (200, 201)
    api.client().get(answer.headers["Location"])


def test_a_pooler_on_the_way_is_refused(
        run: Callable[..., Process], database: str, folder: pathlib.Path) -> None:
    """LISTEN would be the pooler's, and /api/events silent."""
    with pooler(database, folder) as url:
        process = run("api", "--database", url, "--listen", str(folder / "api.sock"))
        assert process.wait() == 78
    assert "connection pooler" in process.log


def test_a_pooler_that_comes_later_is_refused(
        start_api: Callable, db: psycopg.Connection, database: str, folder: pathlib.Path) -> None:
    wire = Proxy(database)
    api = start_api(wire.url)
    with pooler(database, folder) as url:
        wire.lead_to(url)
        wire.cut()
        assert api.process.wait() == 78
    wire.close()


def test_workers_refuse_a_pooler(run: Callable[..., Process], database: str, folder: pathlib.Path) -> None:
    (folder / "tasks.d").mkdir()
    with pooler(database, folder) as url:
        for _ in range(2):  # the second finds what the first has prepared
            assert run("worker", "w", "--database", url, "--tasks", str(folder / "tasks.d")).wait() == 78
