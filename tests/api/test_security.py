# SPDX-License-Identifier: MIT
"""Who may do what: hosts, access tokens, listeners, and what a reload changes."""

import http.client
import os
import pathlib
import re
import signal
import socket
import subprocess
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from support.api import Client
from support.process import Process, eventually

SCOPES = ("submit", "read", "operate", "admin")
ID = "01900000-0000-7000-8000-000000000000"
TASK = {"name": "t"}


class Tokens:
    """A file of tokens, made by the executable."""

    def __init__(self, pgmill: str, folder: pathlib.Path) -> None:
        self.pgmill, self.path = pgmill, folder / "tokens"
        self.path.touch(0o600)

    def new(self, scopes: str, name: str = "me") -> str:
        command = [self.pgmill, "token", "new", "--scope", scopes, "--file", str(self.path), name]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    @property
    def environment(self) -> dict[str, str]:
        return {"PGMILL_TOKENS": str(self.path)}


@pytest.fixture
def tokens(pgmill: str, folder: pathlib.Path) -> Tokens:
    return Tokens(pgmill, folder)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def routes(client: Client) -> list[tuple[str, str, str]]:
    """Method, path and scope of every route, from the list that the service prints."""
    rows = re.findall(r"^(GET|POST|PUT|PATCH) +(/\S*) +(\S+) ", client.get("/").body.decode(), re.M)
    assert len(rows) > 20
    return [(method, path.replace("{id}", ID).replace("{name}", "q"), scope) for method, path, scope in rows]


def test_every_route_asks_for_its_scope(start_api: Callable, tokens: Tokens) -> None:
    texts = {scope: tokens.new(scope, scope) for scope in SCOPES}
    client = start_api(environment=tokens.environment).client()
    for method, path, scope in routes(client):
        if path == "/api/events":
            continue  # below
        body = {} if method in ("POST", "PUT") else None
        for shown, text in texts.items():
            status = client.send(method, path, body, **bearer(text)).status
            allowed = scope in ("-", shown) or shown == "admin"
            assert (status == 403) == (not allowed) and status != 401, (method, path, shown, status)
        for nobody in ({}, bearer("pgmill_" + "A" * 43), bearer(""), {"Authorization": "Basic eDp5"}):
            answer = client.send(method, path, body, **nobody)
            assert (answer.status == 401) == (scope != "-"), (method, path, nobody)
            assert scope == "-" or answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert client.send("GET", "/api/events", **bearer(texts["submit"])).status == 403


def test_a_refusal_names_the_scope_that_is_missing(start_api: Callable, tokens: Tokens) -> None:
    text = tokens.new("read,submit")
    client = start_api(environment=tokens.environment).client()
    answer = client.send("PATCH", f"/api/tasks/{ID}/pause", None, 403, **bearer(text))
    assert answer.json["type"].endswith("#forbidden") and "operate" in answer.json["detail"]
    client.post(TASK, **bearer(text))


def test_idempotency_keys_belong_to_their_token(start_api: Callable, tokens: Tokens, db: psycopg.Connection) -> None:
    one, two = tokens.new("submit", "one"), tokens.new("submit", "two")
    client = start_api(environment=tokens.environment).client()
    first = client.post(TASK, **bearer(one), Idempotency_Key="k").json["id"]
    assert client.post(TASK, **bearer(two), Idempotency_Key="k").json["id"] != first
    assert client.post(TASK, 200, **bearer(one), Idempotency_Key="k").json["id"] == first


def test_the_file_of_tokens_keeps_no_token(tokens: Tokens) -> None:
    text = tokens.new("admin", "deploy")
    assert re.fullmatch(r"pgmill_[A-Za-z0-9_-]{43}", text)
    assert text not in tokens.path.read_text() and re.search(r"^[0-9a-f]{64} admin deploy$", tokens.path.read_text(), re.M)


@pytest.mark.parametrize("line, why", [
    ("nonsense", "tokens:2:"), ("0" * 64 + " fly me", "tokens:2:"), ("0" * 64 + " read", "tokens:2:"),
    ("0" * 63 + " read me", "tokens:2:"), ("0" * 64 + " read me more", "tokens:2:"),
])
def test_a_broken_file_of_tokens_is_named_by_line(run: Callable[..., Process], database: str, tokens: Tokens, line: str,
                                                  why: str) -> None:
    tokens.path.write_text(f"# ours\n{line}\n")
    process = run("api", "--database", database, "--listen", "127.0.0.1:0", environment=tokens.environment)
    assert process.wait() == os.EX_CONFIG and why in process.log


def test_a_file_that_everybody_may_read_is_refused(run: Callable[..., Process], database: str, tokens: Tokens) -> None:
    tokens.path.chmod(0o644)
    process = run("api", "--database", database, "--listen", "127.0.0.1:0", environment=tokens.environment)
    assert process.wait() == os.EX_CONFIG and "chmod" in process.log


def test_nobody_listens_beyond_loopback_without_tokens(run: Callable[..., Process], database: str, tokens: Tokens) -> None:
    process = run("api", "--database", database, "--listen", "0.0.0.0:0")
    assert process.wait() == os.EX_CONFIG and "token" in process.log


def unix(path: pathlib.Path) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(path))
    return connection


def test_a_unix_socket_asks_for_no_token(run: Callable[..., Process], database: str, tokens: Tokens, folder: pathlib.Path) -> None:
    run("api", "--database", database, "--listen", str(folder / "api.sock"), environment=tokens.environment).ready()
    connection = unix(folder / "api.sock")
    connection.request("GET", "/api/stats")
    assert connection.getresponse().status == 200
    connection.close()


def test_hosts_that_are_not_ours_are_refused_everywhere(api: Client) -> None:
    for method, path, _ in routes(api):
        assert api.send(method, path, Host="evil.example").status == 421
    assert api.send("GET", "/healthz", Host="localhost:1234").status == 200


def test_no_page_of_another_origin_may_read_an_answer(api: Client) -> None:
    answer = api.send("GET", "/api/stats", Origin="http://evil.example")
    assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


# ---- reload ----


def status_with(client: Client, text: str) -> int:
    return client.send("GET", "/api/queues/", **bearer(text)).status


def test_a_reload_reads_the_tokens_again(start_api: Callable, tokens: Tokens) -> None:
    old = tokens.new("read", "old")
    api = start_api(environment=tokens.environment)
    client = api.client()
    tokens.path.write_text("")
    new = tokens.new("read", "new")
    assert (status_with(client, old), status_with(client, new)) == (200, 401)
    api.process.signal(signal.SIGHUP)
    eventually(lambda: status_with(client, new) == 200)
    assert status_with(client, old) == 401


def test_a_broken_reload_changes_nothing(start_api: Callable, tokens: Tokens) -> None:
    text = tokens.new("read")
    api = start_api(environment=tokens.environment)
    tokens.path.write_text("nonsense\n")
    api.process.signal(signal.SIGHUP)
    api.process.wait_log("Everything stays as it was")
    assert status_with(api.client(), text) == 200


def test_a_reload_reads_the_configuration_again(run: Callable[..., Process], database: str, folder: pathlib.Path) -> None:
    config = folder / "pgmill.conf"
    config.write_text("[API]\nBodyMax=1K\n")
    listener = socket.create_server(("127.0.0.1", 0))
    process = run("api", "--config", str(config), "--database", database, sockets=[listener]).ready()
    client, big = Client(listener.getsockname()[1]), {"name": "t", "payload": "x" * 2000}
    client.send("POST", "/api/tasks/", big, 413)
    config.write_text("[API]\nBodyMax=4K\nAllowedHosts=queue.example\n")
    process.signal(signal.SIGHUP)
    eventually(lambda: client.send("POST", "/api/tasks/", big).status == 201)
    assert client.send("GET", "/healthz", Host="queue.example").status == 200


# ---- limits ----


def test_probes_are_answered_when_connections_run_out(start_api: Callable, db: psycopg.Connection) -> None:
    api = start_api(environment={"PGMILL_CONNECTIONS_MAX": "100"})
    id = api.client().post(TASK).json["id"]
    waiting = [socket.create_connection(("127.0.0.1", api.port)) for _ in range(95)]
    for s in waiting:  # each is answered in a minute: nobody is slow here, there are just many
        s.sendall(f"GET /api/tasks/{id}?wait=60 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    late: Any = None

    def crowded() -> bool:
        nonlocal late
        late = api.client().send("GET", f"/api/tasks/{id}")
        return late.status == 503

    eventually(crowded)
    assert late.headers["Retry-After"] and late.headers["Connection"] == "close"
    assert [api.client().get(path).status for path in ("/healthz", "/readyz", "/metrics")] == [200] * 3
    for s in waiting:
        s.close()
