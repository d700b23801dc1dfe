# SPDX-License-Identifier: MIT
"""The API and a database that is there and does not do as asked: read-only, full, cut off from its standby."""

import pathlib
import signal
import threading
import uuid
from collections.abc import Callable

import psycopg
import pytest

from support.api import Answer, Client
from support.cluster import Cluster
from support.pooler import pooler
from support.process import Process, eventually
from support.proxy import SERVER, Proxy

TASK = {"name": "example_task"}


class Request(threading.Thread):
    """One that is under way; `answer` comes when it comes."""

    def __init__(self, port: int, method: str, path: str, body: object = None, **headers: str) -> None:
        super().__init__(daemon=True)
        self.sent = threading.Event()
        self.client, self.arguments, self.headers = Client(port, timeout=120), (method, path, body), headers
        self.answer: Answer | None = None
        self.start()

    def run(self) -> None:
        request = self.client.http.request

        def tell(*arguments: object) -> None:
            request(*arguments)  # type: ignore[arg-type]
            self.sent.set()

        self.client.http.request = tell  # type: ignore[method-assign]
        self.answer = self.client.send(*self.arguments, **self.headers)

    def wait(self) -> Answer:
        self.join(60)
        assert self.answer, "no answer"
        return self.answer


def test_a_read_only_server_is_left_and_told(own_cluster: Cluster, start_api: Callable) -> None:
    api = start_api(own_cluster.fresh())
    client = api.client()
    own_cluster.configure(default_transaction_read_only="on")
    eventually(lambda: client.post(TASK, expect=None).status == 503)
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


@pytest.mark.long
def test_a_connection_that_goes_mute_is_made_anew(start_api: Callable, db: psycopg.Connection, database: str) -> None:
    """New ones are served. What waited for the mute one's answer is answered, and the server's end of it does not stay."""
    wire = Proxy(database)
    api = start_api(wire.url)
    client = api.client()
    id = client.post(TASK).json["id"]
    wire.mute()
    requests = [Request(api.port, "POST", "/api/tasks/", TASK), Request(api.port, "PATCH", f"/api/tasks/{id}/pause"),
                Request(api.port, "POST", "/api/tasks/", TASK, Idempotency_Key="k")]
    assert [request.wait().status for request in requests] == [201, 200, 201]
    assert db.execute("SELECT count(*) FROM pgmill.tasks").fetchone() == (3,)
    eventually(lambda: db.execute("SELECT count(*), count(DISTINCT application_name) FROM pg_stat_activity "
                                  "WHERE application_name ~ '^pgmill-api'").fetchone() == (7, 7), within=60)
    wire.close()


def attempts(db: psycopg.Connection, id: str) -> int:
    return db.execute("SELECT max_attempts FROM pgmill.tasks WHERE id = %s", [id]).fetchone()[0]


def test_a_retry_whose_answer_is_lost_is_done_once(start_api: Callable, db: psycopg.Connection, database: str) -> None:
    """Meanwhile it was tried, and failed once more: sent again it would be tried a third time."""
    wire = Proxy(database)
    api = start_api(wire.url)
    id = api.client().post(TASK | {"max_attempts": 1}).json["id"]
    fail = "UPDATE pgmill.tasks SET state = 'failed', ready = false, attempt = max_attempts, finished_at = now() WHERE id = %s"
    db.execute(fail, [id])
    trap = wire.trap(SERVER, lambda kind, body: kind == "D" and b"done" in body[:20])
    request = Request(api.port, "PATCH", f"/api/tasks/{id}/retry")
    trap.wait()
    eventually(lambda: attempts(db, id) == 2)
    db.execute(fail, [id])
    trap.cut()
    assert request.wait().status == 200
    assert attempts(db, id) == 2
    assert api.client().get(f"/api/tasks/{id}").json["status"] == "FAILED"
    wire.close()


def test_a_pause_whose_answer_is_lost_undoes_nothing(start_api: Callable, database: str) -> None:
    wire = Proxy(database)
    api = start_api(wire.url)
    client = api.client()
    id = client.post(TASK).json["id"]
    trap = wire.trap(SERVER, lambda kind, body: kind == "D" and b"done" in body[:20])
    request = Request(api.port, "PATCH", f"/api/tasks/{id}/pause")
    trap.wait()
    eventually(lambda: client.get(f"/api/tasks/{id}").json["status"] == "PAUSED")
    with psycopg.connect(database, autocommit=True) as other:
        assert other.execute("SELECT pgmill.resume(%s)", [id]).fetchone() == ("done",)
    trap.cut()
    assert request.wait().json["status"] == "AVAILABLE"
    wire.close()


def test_a_setting_whose_answer_is_lost_is_said_to_be_unknown(start_api: Callable, database: str) -> None:
    wire = Proxy(database)
    api = start_api(wire.url)
    trap = wire.trap(SERVER, lambda kind, body: kind == "D" and b'"paused"' in body)
    api.client().post(TASK)
    request = Request(api.port, "PATCH", "/api/queues/default/pause")
    trap.wait().cut()
    answer = request.wait()
    assert answer.status == 504 and answer.json["type"].endswith("#outcome-unknown")
    wire.close()


def at_once(api: object, requests: Callable[[], list[Request]]) -> list[Answer]:
    """All are there before the service sees the first."""
    api.process.signal(signal.SIGSTOP)
    sent = requests()
    for request in sent:
        assert request.sent.wait(20)
    api.process.signal(signal.SIGCONT)
    return [request.wait() for request in sent]


@pytest.mark.parametrize("kind", ["keyed", "unique", "steered"])
def test_two_hundred_clients_at_once_wait_for_their_turn(start_api: Callable, kind: str) -> None:
    api = start_api()
    ids = [api.client().post(TASK).json["id"] for _ in range(200)] if kind == "steered" else []
    answers = at_once(api, lambda: [
        Request(api.port, "PATCH", f"/api/tasks/{ids[i]}/pause") if kind == "steered" else
        Request(api.port, "POST", "/api/tasks/", TASK, Idempotency_Key=str(i)) if kind == "keyed" else
        Request(api.port, "POST", "/api/tasks/", TASK | {"unique_key": str(i)}) for i in range(200)])
    assert {answer.status for answer in answers} == {200 if kind == "steered" else 201}


def test_the_same_request_two_hundred_times_at_once_is_done_once(start_api: Callable, db: psycopg.Connection) -> None:
    api = start_api()
    answers = at_once(api, lambda: [
        Request(api.port, "POST", "/api/tasks/", TASK, Idempotency_Key="k") for _ in range(200)])
    assert sorted(answer.status for answer in answers) == [200] * 199 + [201]
    assert db.execute("SELECT count(*) FROM pgmill.tasks").fetchone() == (1,)


def test_a_key_that_another_transaction_holds_is_waited_for_by_one(
        start_api: Callable, db: psycopg.Connection, connect: Callable) -> None:
    api = start_api()
    id = api.client().post(TASK).json["id"]
    holder = connect(autocommit=False)
    holder.execute("SELECT pgmill.submit('t', unique_key => 'k')")
    answers = at_once(api, lambda: [
        Request(api.port, "PATCH", f"/api/tasks/{id}/pause"), Request(api.port, "POST", "/api/tasks/", TASK, Idempotency_Key="a"),
        *(Request(api.port, "POST", "/api/tasks/", TASK | {"unique_key": "k"}) for _ in range(100))])
    assert [answer.status for answer in answers] == [200, 201] + [409] * 100
    holder.rollback()
    api.client().post(TASK | {"unique_key": "k"})


@pytest.mark.long
def test_bulks_beyond_the_budget_are_refused(start_api: Callable) -> None:
    api = start_api()
    text = "x" * 15_700_000
    body = '{"tasks": [{"name": "t", "payload": "%s"}]}' % text
    requests = [Request(api.port, "POST", "/api/tasks/bulk", body) for _ in range(12)]
    statuses = [request.wait().status for request in requests]
    assert set(statuses) <= {201, 503} and 201 in statuses
    api.client().send("POST", "/api/tasks/bulk", body, expect=201)
