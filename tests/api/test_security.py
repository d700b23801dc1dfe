# SPDX-License-Identifier: MIT
"""Who may do what: tokens and their scopes, hosts, listeners that others can reach, and reading all that again."""

import contextlib
import hashlib
import http.client
import os
import pathlib
import re
import signal
import socket
import subprocess
import uuid
from collections.abc import Callable, Iterator

import psycopg
import pytest

from support.api import Answer, Client
from support.network import Network
from support.process import Process, eventually

TASK = {"name": "example_task"}
SCOPES = ("submit", "read", "operate", "admin")

# What is promised; GET / says what is so.
PROMISED = {
    "POST /api/tasks/": "submit",
    "POST /api/tasks/bulk": "submit",
    "GET /api/tasks/": "read",
    "GET /api/tasks/{id}": "read",
    "GET /api/tasks/{id}/log": "read",
    "PATCH /api/tasks/{id}/pause": "operate",
    "PATCH /api/tasks/{id}/resume": "operate",
    "PATCH /api/tasks/{id}/cancel": "operate",
    "PATCH /api/tasks/{id}/retry": "operate",
    "GET /api/queues/": "read",
    "GET /api/queues/{name}": "read",
    "PUT /api/queues/{name}": "admin",
    "DELETE /api/queues/{name}": "admin",
    "PATCH /api/queues/{name}": "admin",
    "PATCH /api/queues/{name}/pause": "operate",
    "PATCH /api/queues/{name}/resume": "operate",
    "GET /api/workers/": "read",
    "PATCH /api/workers/{id}/quiet": "operate",
    "GET /api/stats": "read",
    "GET /api/events": "read",
    "GET /metrics": "read",
}


@pytest.fixture
def new_token(pgmill: str, folder: pathlib.Path) -> Callable[..., str]:
    def new(name: str, scope: str, file: pathlib.Path = folder / "tokens") -> str:
        command = [pgmill, "token", "new", "--scope", scope, "--file", str(file), name]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    return new


@pytest.fixture
def tokens(new_token: Callable[..., str]) -> dict[str, str]:
    return {scope: new_token(f"the-{scope}", scope) for scope in SCOPES}


@pytest.fixture
def guarded(start_api: Callable, tokens: dict[str, str], folder: pathlib.Path) -> Iterator[Callable[..., Answer]]:
    """guarded("GET", "/api/stats", token) → the answer of an API that asks for tokens."""
    api = start_api(environment={"PGMILL_TOKENS": str(folder / "tokens")})

    def ask(method: str, path: str, token: str | None = None, body: object = None, **headers: str) -> Answer:
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        client = api.client()
        try:
            return client.send(method, path, body, **headers)
        finally:
            client.close()

    ask.api = api  # type: ignore[attr-defined]
    yield ask


def status_of(port: int, method: str, path: str, token: str | None) -> tuple[int, str | None]:
    """Its status alone: an event stream has no end."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, headers={"Authorization": f"Bearer {token}"} if token else {})
    response = connection.getresponse()
    connection.close()
    return response.status, response.headers["WWW-Authenticate"]


def routes(port: int) -> dict[str, str]:
    text = Client(port).get("/").body.decode()
    rows = re.findall(r"^([A-Z]+) +(/\S*) +(\S+) ", text, re.MULTILINE)
    assert len(rows) == len(text.splitlines()) - 2
    return {f"{method} {path}": scope for method, path, scope in rows}


def test_every_route_wants_its_scope(guarded: Callable, tokens: dict[str, str]) -> None:
    port = guarded.api.port
    listed = routes(port)
    assert {route: scope for route, scope in listed.items() if scope != "-"} == PROMISED
    shown = tokens | {"none": None, "unknown": "pgmill_" + "x" * 43, "short": "pgmill_x"}
    for route, wanted in listed.items():
        method, path = route.split()
        path = path.replace("{id}", str(uuid.uuid4())).replace("{name}", "nobody")
        for which, token in shown.items():
            status, challenge = status_of(port, method, path, token)
            if wanted == "-" or which in (wanted, "admin"):
                assert status not in (401, 403), (route, which)
            elif which in SCOPES:
                assert status == 403 and f'scope="{wanted}"' in challenge, (route, which)
            else:
                assert status == 401 and challenge.startswith("Bearer"), (route, which)
                assert ("invalid_token" in challenge) == (token is not None)


def test_a_refusal_says_what_to_do(guarded: Callable, tokens: dict[str, str]) -> None:
    answer = guarded("POST", "/api/tasks/", body=TASK)
    assert answer.status == 401 and answer.json["type"] == "/docs/problems#unauthorized"
    answer = guarded("POST", "/api/tasks/", tokens["read"], TASK)
    assert answer.status == 403 and answer.json["type"] == "/docs/problems#forbidden"
    assert '"the-read"' in answer.json["detail"] and "submit" in answer.json["detail"]
    assert guarded("POST", "/api/tasks/", tokens["submit"], TASK).status == 201


@pytest.mark.parametrize("value, status", [
    ("bearer {}", 201), ("BEARER   {}", 201), ("Bearer {}x", 401), ("Bearer {} ", 201), ("Basic {}", 401),
    ("Bearer", 401), ("", 401), ("{}", 401), ("Bearer {0}, Bearer {0}", 401),
])
def test_spellings_of_authorization(guarded: Callable, tokens: dict[str, str], value: str, status: int) -> None:
    """Blanks at the end are no part of a header's value."""
    answer = guarded("POST", "/api/tasks/", body=TASK, Authorization=value.format(tokens["submit"]))
    assert answer.status == status


def test_unknown_paths_and_methods_are_told_without_a_token(guarded: Callable) -> None:
    assert guarded("GET", "/nothing").status == 404
    assert guarded("DELETE", "/api/tasks/").status == 405
    assert guarded("OPTIONS", "/api/tasks/").status == 204


def test_idempotency_keys_are_each_tokens_own(guarded: Callable, tokens: dict[str, str], new_token: Callable) -> None:
    answers = [guarded("POST", "/api/tasks/", token, TASK, Idempotency_Key="k")
               for token in (tokens["submit"], tokens["admin"], tokens["submit"])]
    assert [answer.status for answer in answers] == [201, 201, 200]
    assert answers[0].json["id"] == answers[2].json["id"] != answers[1].json["id"]


def test_each_token_brings_queues_of_its_own_into_being(
        start_api: Callable, tokens: dict[str, str], folder: pathlib.Path) -> None:
    environment = {"PGMILL_TOKENS": str(folder / "tokens"), "PGMILL_QUEUE_NAMES": "2"}
    first, second = start_api(environment=environment), start_api(environment=environment)

    def post(api: object, token: str, queue: str) -> tuple[int, str]:
        answer = Client(api.port).post(TASK | {"queue": queue}, None, Authorization=f"Bearer {tokens[token]}")
        return answer.status, answer.json.get("detail", "")

    assert [post(first, "submit", queue)[0] for queue in ("a", "b", "a")] == [201, 201, 201]
    for api in (first, second):  # the database knows what each has made
        status, detail = post(api, "submit", "c")
        assert status == 422 and '"the-submit"' in detail
    assert [post(second, "admin", queue)[0] for queue in ("c", "a", "d", "e")] == [201, 201, 201, 422]
    assert post(second, "submit", "d")[0] == 201


def test_a_unix_socket_needs_no_token(
        run: Callable[..., Process], database: str, folder: pathlib.Path, tokens: dict[str, str]) -> None:
    path = str(folder / "api.sock")
    run("api", "--database", database, "--tokens", str(folder / "tokens"), "--listen", path).ready()
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    connection.sendall(b"GET /api/stats HTTP/1.1\r\nHost: any.example\r\nConnection: close\r\n\r\n")
    assert connection.recv(4096).startswith(b"HTTP/1.1 200")
    assert os.stat(path).st_mode & 0o777 == 0o660


# ---- the file ----


def test_a_token_is_shown_once_and_only_its_digest_is_kept(pgmill: str, new_token: Callable, folder) -> None:
    lines = subprocess.run([pgmill, "token", "new", "--scope", "read,submit", "web"], check=True,
                           stdout=subprocess.PIPE, text=True).stdout.splitlines()
    assert re.fullmatch(r"pgmill_[A-Za-z0-9_-]{43}", lines[0])
    assert lines[1:] == [hashlib.sha256(lines[0].encode()).hexdigest() + " read,submit web"]
    (folder / "tokens").write_text(lines[1])  # without a newline at its end
    (folder / "tokens").chmod(0o600)
    other = new_token("other", "admin")
    assert (folder / "tokens").read_text().splitlines() == [
        lines[1], hashlib.sha256(other.encode()).hexdigest() + " admin other"]


@pytest.mark.long
def test_tokens_made_at_once_are_all_kept(pgmill: str, folder: pathlib.Path) -> None:
    command = [pgmill, "token", "new", "--scope", "read", "--file", str(folder / "tokens")]
    makers = [subprocess.Popen([*command, f"n{i}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
              for i in range(8)]
    assert [maker.wait() for maker in makers] == [0] * 8
    names = {line.split()[2] for line in (folder / "tokens").read_text().splitlines()}
    assert names == {f"n{i}" for i in range(8)}


@pytest.mark.parametrize("arguments, complaint", [
    (["new", "web"], "--scope is missing"),
    (["new", "--scope", "write", "web"], "submit, read, operate, admin"),
    (["new", "--scope", "read,", "web"], "submit, read, operate, admin"),
    (["new", "--scope", "read", "a b"], "must be at most 100"),
    (["new", "--scope", "read"], "pgmill token new"),
    (["old", "--scope", "read", "web"], "pgmill token new"),
])
def test_the_verb_says_what_it_needs(pgmill: str, arguments: list[str], complaint: str) -> None:
    done = subprocess.run([pgmill, "token", *arguments], capture_output=True, text=True)
    assert done.returncode == os.EX_USAGE and complaint in done.stderr and done.stdout == ""


HASH = hashlib.sha256(b"x").hexdigest()
BROKEN = {
    "no digest": (f"# fine\n\n{HASH[1:]} read a\n", 0o600, ":3: it must begin with the SHA-256"),
    "unknown scope": (f"{HASH} read,write a\n", 0o600, ":1: the scopes must be some of"),
    "no scope": (f"{HASH}\n", 0o600, ":1: the scopes must be some of"),
    "no name": (f"{HASH} read\n", 0o600, ":1: behind the scopes must stand a name"),
    "odd name": (f"{HASH} read ä\n", 0o600, ":1: behind the scopes must stand a name"),
    "too much": (f"{HASH} read a b\n", 0o600, ":1: nothing may stand behind the name"),
    "twice": (f"{HASH} read a\n{HASH} admin b\n", 0o600, ":2: this token is in the file already"),
    "NUL": (f"{HASH} read a\n\0\n", 0o600, ":2: it holds a NUL byte"),
    "too long": ("#" * 66_000, 0o600, "File too large"),
    "readable by others": (f"{HASH} read a\n", 0o644, "chmod 0640"),
    "writable by its group": (f"{HASH} read a\n", 0o660, "chmod 0640"),
    "missing": (None, 0, "No such file"),
}


@pytest.mark.parametrize("which", BROKEN)
def test_a_file_that_is_not_as_it_must_be_is_refused(
        run: Callable[..., Process], database: str, folder: pathlib.Path, which: str) -> None:
    content, mode, complaint = BROKEN[which]
    path = folder / "tokens"
    if content is not None:
        path.write_text(content)
        path.chmod(mode)
    process = run("api", "--database", database, "--tokens", str(path), "--listen", "127.0.0.1:0")
    assert process.wait() == os.EX_CONFIG
    assert str(path) in process.log and complaint in process.log


def test_a_credential_will_do(start_api: Callable, tokens: dict[str, str], folder: pathlib.Path) -> None:
    (folder / "tokens").rename(folder / "pgmill.tokens")
    api = start_api(environment={"CREDENTIALS_DIRECTORY": str(folder)})
    api.client().get("/api/stats", expect=401)
    assert api.client().send("GET", "/api/stats", Authorization=f"Bearer {tokens['read']}").status == 200


# ---- other machines ----


@pytest.fixture
def network() -> Iterator[Network]:
    network = Network()
    yield network
    network.close()


def say(network: Network, listener: socket.socket, head: str, source: str = "192.0.2.9") -> bytes:
    """The first line of the answer; nothing if it was not let in."""
    with contextlib.suppress(ConnectionError), network.connect(listener, source) as connection:
        connection.sendall(head.encode() + b"Connection: close\r\n\r\n")
        return connection.makefile("rb").readline()
    return b""


def test_without_tokens_a_passed_socket_beyond_loopback_is_refused(
        run: Callable[..., Process], database: str, network: Network) -> None:
    process = run("api", "--database", database, sockets=[network.listen()])
    assert process.wait() == os.EX_CONFIG
    assert "other machines could reach it" in process.log and "pgmill token new" in process.log


def test_with_tokens_others_are_served_under_the_names_that_are_allowed(
        run: Callable[..., Process], database: str, folder: pathlib.Path, tokens: dict[str, str],
        network: Network) -> None:
    listener = network.listen()
    run("api", "--database", database, "--tokens", str(folder / "tokens"), "--allowed-hosts", "queue.example",
        sockets=[listener]).ready()
    for host, token, status in (("192.0.2.1", "read", 421), ("queue.example", "", 401), ("queue.example", "read", 200)):
        head = f"GET /api/stats HTTP/1.1\r\nHost: {host}\r\n"
        if token:
            head += f"Authorization: Bearer {tokens[token]}\r\n"
        assert say(network, listener, head).split()[1] == str(status).encode()


def test_no_single_machine_has_all_connections(
        run: Callable[..., Process], database: str, folder: pathlib.Path, tokens: dict[str, str],
        network: Network) -> None:
    listener = network.listen()
    process = run("api", "--database", database, "--tokens", str(folder / "tokens"), "--address-connections-max",
                  "5", sockets=[listener]).ready()
    ping = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
    greedy = [network.connect(listener, "192.0.2.9") for _ in range(5)]
    for connection in greedy:  # all are in
        connection.sendall(ping.encode() + b"\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
    with network.connect(listener, "192.0.2.9") as sixth, pytest.raises(OSError):
        if sixth.recv(1) == b"":
            raise ConnectionResetError
    process.wait_log("192.0.2.9 has 5 connections")
    assert b" 200 " in say(network, listener, ping, "192.0.2.10")
    greedy.pop().close()
    eventually(lambda: b" 200 " in say(network, listener, ping))
    for connection in greedy:
        connection.close()


# ---- reading it again ----


def reload(process: Process) -> None:
    before = sum("READY=1" in message for message in process.messages)
    process.signal(signal.SIGHUP)
    process.wait_for(lambda: sum("READY=1" in message for message in process.messages) > before, "READY after reload")


def test_a_reload_takes_over_what_has_changed(
        start_api: Callable, db: psycopg.Connection, tokens: dict[str, str], new_token: Callable,
        folder: pathlib.Path) -> None:
    config, file = folder / "pgmill.conf", folder / "tokens"
    settings = f"[API]\nTokens={file}\n"
    config.write_text(settings)
    api = start_api(arguments=["--config", str(config)])
    client = api.client()

    def status(scope: str, method: str = "GET", path: str = "/api/stats", body: object = None, **headers: str) -> int:
        return client.send(method, path, body, Authorization=f"Bearer {tokens[scope]}", **headers).status

    assert status("read") == 200
    assert status("read", Host="queue.example") == 421
    file.write_text("".join(line + "\n" for line in file.read_text().splitlines() if "the-read" not in line))
    late = new_token("late", "read")
    config.write_text(settings + "AllowedHosts=queue.example\nBodyMax=1K\nListen=127.0.0.1:1\n")
    reload(api.process)
    assert any("RELOADING=1" in message for message in api.process.messages)
    assert any("MONOTONIC_USEC=" in message for message in api.process.messages)
    api.process.wait_log("Listen= in section [API] has changed; that takes a restart")
    assert status("read") == 401
    assert client.send("GET", "/api/stats", Host="queue.example", Authorization=f"Bearer {late}").status == 200
    assert status("submit", "POST", "/api/tasks/", {"name": "t", "payload": "x" * 2000}) == 413


@pytest.mark.parametrize("broken", ["config", "value", "hosts", "tokens", "mode"])
def test_a_broken_file_changes_nothing(
        start_api: Callable, tokens: dict[str, str], folder: pathlib.Path, broken: str) -> None:
    config, file = folder / "pgmill.conf", folder / "tokens"
    config.write_text(f"[API]\nTokens={file}\n")
    api = start_api(arguments=["--config", str(config)])
    if broken == "config":
        config.write_text("[API]\nAllowedHosts=queue.example\nwhat is this\n")
    elif broken == "value":
        config.write_text("[API]\nAllowedHosts=queue.example\nBodyMax=1\n")
    elif broken == "hosts":
        config.write_text("[API]\nAllowedHosts=queue.example,http://queue.example\n")
    elif broken == "tokens":
        config.write_text(f"[API]\nTokens={file}\nAllowedHosts=queue.example\n")
        file.write_text(file.read_text() + "what is this\n")
    else:
        file.chmod(0o666)
    reload(api.process)
    culprit = {"config": f"{config}:3:", "value": f"{config}:3: BodyMax=:", "hosts": "AllowedHosts=",
               "tokens": f"{file}:5:", "mode": "chmod"}
    api.process.wait_log(culprit[broken])
    api.process.wait_log("Everything stays as it was")
    client = api.client()
    client.get("/api/stats", expect=401)
    headers = {"Authorization": f"Bearer {tokens['read']}"}
    assert client.send("GET", "/api/stats", **headers).status == 200
    assert client.send("GET", "/api/stats", Host="queue.example", **headers).status == 421


def test_tokens_cannot_be_done_away_with_while_others_can_reach_it(
        run: Callable[..., Process], database: str, folder: pathlib.Path, tokens: dict[str, str],
        network: Network) -> None:
    config, listener = folder / "pgmill.conf", network.listen()
    config.write_text(f"[API]\nTokens={folder / 'tokens'}\n")
    process = run("api", "--database", database, "--config", str(config), sockets=[listener]).ready()
    config.write_text("")
    reload(process)
    process.wait_log("Without access tokens it cannot go on listening on 192.0.2.1")
    assert b" 401 " in say(network, listener, "GET /api/stats HTTP/1.1\r\nHost: localhost\r\n")


def test_a_reload_loses_no_request(start_api: Callable, tokens: dict[str, str], folder: pathlib.Path) -> None:
    api = start_api(environment={"PGMILL_TOKENS": str(folder / "tokens")})
    client = api.client()
    for _ in range(200):
        api.process.signal(signal.SIGHUP)
        assert client.post(TASK, Authorization=f"Bearer {tokens['submit']}").status == 201


# ---- what every answer says ----


@pytest.mark.parametrize("method, path, cache", [
    ("GET", "/api/stats", "no-store"), ("GET", "/api/tasks/", "no-store"), ("POST", "/api/tasks/", "no-store"),
    ("GET", "/api/nothing", "no-store"), ("DELETE", "/api/tasks/", "no-store"), ("GET", "/metrics", "no-store"),
    ("GET", "/docs", "no-cache"), ("GET", "/openapi.json", "no-cache"),
])
def test_answers_are_neither_stored_nor_guessed(api: Client, method: str, path: str, cache: str) -> None:
    headers = api.send(method, path).headers
    assert headers.get_all("Cache-Control") == [cache] and headers.get_all("X-Content-Type-Options") == ["nosniff"]
