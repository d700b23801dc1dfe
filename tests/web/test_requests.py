# SPDX-License-Identifier: MIT
"""Thousands of requests made from the API's description, good and bad: every answer must be one that it describes,
a good request must not be called bad, and a bad one must never be acknowledged."""

import http.client
import json
import pathlib
import random
import shlex
import urllib.parse
from collections import Counter
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from description import Description, Maker, Operation
from support.node import ROOT

DESCRIPTION = Description(ROOT / "src/api/web/openapi.json")
# What a request that keeps to the description may not be told.
KINDS = {"queue": "queues", "task": "tasks", "cursor": "tasks"}  # what a parameter names
BLAME = {400, 401, 403, 405, 406, 413, 414, 415, 421, 422, 431, 500, 503}


class Request:
    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.method = operation.method
        self.path: dict[str, str] = {}
        self.query: list[tuple[str, str]] = []
        self.headers: dict[str, str] = {}
        self.body: bytes | None = None
        self.may = {int(status) for status in operation.answers} - BLAME
        self.wrong = ""  # in what way it is bad

    @property
    def target(self) -> str:
        path = self.operation.path
        for name, value in self.path.items():
            path = path.replace(f"{{{name}}}", urllib.parse.quote(value, safe=""))
        return path + ("?" + urllib.parse.urlencode(self.query) if self.query else "")

    def bad(self, how: str, *may: int) -> None:
        self.wrong, self.may = how, set(may)

    def __str__(self) -> str:
        curl = ["curl", "-i", "-X", self.method, f"http://localhost:8000{self.target}"]
        for name, value in self.headers.items():
            curl += ["-H", f"{name}: {value}"]
        if self.body is not None:
            curl += ["--data-binary", self.body.decode(errors="backslashreplace")]
        return shlex.join(curl)[:3000]


def text(value: Any, schema: dict) -> str:
    """A parameter as it is written in a query."""
    return ",".join(value) if schema.get("type") == "array" else str(value)


class Source(Maker):
    """Good and bad requests."""

    def __init__(self, seed: int, operations: list[Operation]) -> None:
        super().__init__(seed)
        self.operations = operations
        self.keys: set[str | None] = set()
        self.known: dict[str, list[str]] = {"tasks": [], "queues": [], "workers": []}
        self.spoilers = [self.spoil_query, self.spoil_query, self.spoil_path, self.spoil_headers, self.spoil_body,
                         self.spoil_body, self.spoil_body, self.spoil_json, self.spoil_type, self.spoil_method]

    def good(self, operation: Operation) -> Request:
        request = Request(operation)
        for parameter in operation.parameters:
            name, schema = parameter["name"], parameter["schema"]
            kind = KINDS.get(name, operation.path.split("/")[2] if parameter["in"] == "path" else "")
            if name == "cursor" and kind not in operation.path:
                kind = ""
            if name == "wait":
                value: Any = 0  # it would do as it is told
            elif self.known.get(kind) and self.chance(0.8):
                value = self.random.choice(self.known[kind])
            else:
                value = self.value(schema)
            if parameter["in"] == "path":
                request.path[name] = value
            elif self.chance(0.3):
                if parameter["in"] == "query":
                    request.query.append((name, text(value, schema)))
                else:
                    request.headers[name] = value
        if operation.body and (operation.body_required or self.chance(0.3)):
            request.headers["Content-Type"] = self.random.choice(
                ["application/json", "application/json; charset=utf-8", "Application/JSON ;charset=utf-8"])
            request.body = json.dumps(self.value(operation.body), ensure_ascii=self.chance(0.5)).encode()
        key = request.headers.get("Idempotency-Key")
        if key and key in self.keys:
            request.may.add(422)  # another request had it
        self.keys.add(key)
        return request

    def learn(self, answer: Any) -> None:
        """Of things that exist."""
        if isinstance(answer, dict) and "payload" in answer:
            self.known["tasks"] = self.known["tasks"][-50:] + [answer["id"]]
            self.known["queues"] = self.known["queues"][-20:] + [answer["queue"]]
        elif isinstance(answer, dict) and "max_running" in answer:  # one that is empty, and can be deleted
            self.known["queues"] = self.known["queues"][-20:] + [answer["name"]]

    def any(self) -> Request:
        request = self.good(self.random.choice(self.operations))
        while self.chance(0.5) and not request.wrong:
            self.random.choice(self.spoilers)(request)
        return request

    # ---- Each makes a good request bad, where it can. A bad value must be told from what is merely strange. ----

    def spoil_query(self, request: Request) -> None:
        known = [p for p in request.operation.parameters if p["in"] == "query"]
        if known and self.chance(0.7):
            parameter = self.random.choice(known)
            name = parameter["name"]
            request.query = [pair for pair in request.query if pair[0] != name]
            bad = self.random.choice(["", "-1", "0x", "1e3", "99999999999999999999", "\x01", "ä", ",", "x" * 300, "NONE"])
            if name == "tag" and 0 < len(bad) <= 100 or name in ("queue", "name") and bad in ("0x", "1e3", "NONE") or \
                    name in ("queue", "name") and bad.isdigit():
                return
            request.query.append((name, bad))
            if parameter["schema"].get("type") != "array" and self.chance(0.2):
                request.query[-1] = (name, text(self.value(parameter["schema"]), parameter["schema"]))
                request.query.append(request.query[-1])  # twice
        else:
            request.query.append((self.random.choice(["Limit", "limi", "", "x", "ä", "a" * 200]), "1"))
        request.bad("query", 422)

    def spoil_path(self, request: Request) -> None:
        if "id" in request.path:
            request.path["id"] = self.random.choice(["x", "0" * 32 + "g", "%", "ä", "\x01", "-" * 36, request.path["id"] + "0"])
            request.bad("id", 422)
        elif "name" in request.path:
            request.path["name"] = self.random.choice([".", "-a", "a b", "ä", "%", "a" * 101, "\x7f"])
            request.bad("name", 422)

    def spoil_headers(self, request: Request) -> None:
        if "Idempotency-Key" in [p["name"] for p in request.operation.parameters] and self.chance(0.6):
            request.headers["Idempotency-Key"] = self.random.choice(["", "x" * 256, "a\tb", "\xe4"])
            request.bad("key", 422)
        elif self.chance(0.6):
            request.headers["Host"] = self.random.choice(["example.org", "localhost.example.org", "127.0.0.1.nip.io", "", "["])
            request.bad("host", 421)
        elif self.chance(0.2):
            request.headers["X-Long"] = "x" * 20000
            request.bad("long header", 431)

    def spoil_body(self, request: Request) -> None:
        if request.body is not None and request.operation.body:
            request.body = json.dumps(self.wrong(request.operation.body)).encode()
            request.bad("field", 422)

    def spoil_json(self, request: Request) -> None:
        if not request.body:
            return
        how = self.random.choice(["cut", "tail", "utf-8", "nul", "deep", "twice", "surrogate", "text"])
        if how == "cut":
            request.body = request.body[: self.random.randrange(1, len(request.body))]
        elif how == "tail":
            request.body += self.random.choice([b",", b"{}", b"\0", b"x"])
        elif how == "utf-8":
            request.body = b'{"name": "a", "payload": "' + self.random.choice([b"\xff", b"\xc0\x80", b"\xed\xa0\x80"]) + b'"}'
        elif how == "nul":
            request.body = b'{"name": "a", "payload": ["\\u0000"]}'
        elif how == "deep":
            request.body = b'{"name": "a", "payload": ' + b"[" * 64 + b"]" * 64 + b"}"
        elif how == "twice":
            request.body = b'{"name": "a", "name": "a", "paused": true, "paused": true, "tasks": [], "tasks": []}'
        elif how == "surrogate":
            request.body = b'{"name": "a", "payload": "\\ud800"}'
        else:
            request.body = self.random.choice([b"'", b"NaN", b"{'name': 'a'}", b"\xef\xbb\xbf{}", b"// {}\n{}", b"{,}", b"[1,]"])
        request.bad(how, 400, 422)

    def spoil_type(self, request: Request) -> None:
        if request.body:
            request.headers["Content-Type"] = self.random.choice(["", "text/plain", "application/jsonx", "application/x-www-form-urlencoded"])
            request.bad("type", 415)

    def spoil_method(self, request: Request) -> None:
        others = {o.method for o in self.operations if o.path == request.operation.path}
        request.method = self.random.choice(sorted({"DELETE", "PUT", "POST", "PATCH", "TRACE", "BREW"} - others))
        request.bad("method", 405)


class Conversation:
    """One connection, opened anew when the service has closed it."""

    def __init__(self, port: int) -> None:
        self.http = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def send(self, request: Request) -> tuple[int, Any, bytes]:
        self.http.putrequest(request.method, request.target, skip_host="Host" in request.headers,
                             skip_accept_encoding=True)
        for name, value in request.headers.items():
            self.http.putheader(name, value)
        if request.body is not None or request.method in ("POST", "PUT", "PATCH"):
            self.http.putheader("Content-Length", str(len(request.body or b"")))
        try:
            self.http.endheaders(request.body)
        except BrokenPipeError:  # refused by its header; the answer is there to be read
            pass
        answer = self.http.getresponse()
        if answer.headers.get_content_type() == "text/event-stream":
            self.http.close()  # it has no end
            return answer.status, answer.headers, b""
        return answer.status, answer.headers, answer.read()


def complaint(request: Request, status: int, headers: Any, body: bytes) -> str | None:
    if status not in request.may:
        return f"the status {status} is none of {sorted(request.may)}"
    if status == 405:
        allowed = headers.get("Allow", "")
        return None if allowed and request.method not in allowed.split(", ") else f"Allow: {allowed}"
    return DESCRIPTION.complaint(request.operation, status, headers, body)


@pytest.fixture(params=["fixed", "random"])
def seed(request: pytest.FixtureRequest) -> int:
    if (given := request.config.getoption("--seed")) is not None:
        return given
    return 8000 if request.param == "fixed" else random.SystemRandom().getrandbits(32)


def test_every_answer_is_one_that_is_described(
        request: pytest.FixtureRequest, start_api: Callable, run: Callable, database: str, db: psycopg.Connection,
        folder: pathlib.Path, seed: int) -> None:
    count = request.config.getoption("--requests")
    print(f"--seed {seed} --requests {count}")
    source = Source(seed, DESCRIPTION.operations)
    run("worker", "--database", database, "--tasks", str(folder), "idle").ready()
    source.known["workers"] = [str(id) for id, in db.execute("SELECT id FROM pgmill.workers")]
    talk = Conversation(start_api().port)
    seen: Counter[tuple[str, str, int]] = Counter()
    for n in range(count):
        made = source.any()
        status, headers, body = talk.send(made)
        wrong = complaint(made, status, headers, body)
        assert not wrong, f"request {n} of --seed {seed} ({made.wrong or 'good'}): {wrong}\n{made}\n{body[:2000]!r}"
        seen[str(made.operation), made.wrong or "good", status] += 1
        if status == 201:
            source.learn(json.loads(body))
    for (operation, kind, status), times in sorted(seen.items()):
        print(f"{times:6} {operation:34} {kind:12} {status}")
    # It is of no use unless every operation succeeds now and then.
    assert {operation for operation, kind, status in seen if status < 300} == set(map(str, DESCRIPTION.operations))
