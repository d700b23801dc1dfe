# SPDX-License-Identifier: MIT
"""A conversation with the API over one keep-alive connection."""

import http.client
import json
from typing import Any


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def fields(self) -> list[str]:
        """The fields a problem complains about."""
        return [error["field"] for error in self.json.get("errors", [])]


class Client:
    def __init__(self, port: int, timeout: float = 30) -> None:
        self.http = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)

    def close(self) -> None:
        self.http.close()

    def send(self, method: str, path: str, body: Any = None, expect: int | None = None, **headers: str) -> Answer:
        """body: bytes or text as they are, anything else as JSON. Underscores in header names are dashes."""
        head = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        if isinstance(body, str):
            body = body.encode()
        if body is not None:
            head.setdefault("Content-Type", "application/json")
        self.http.request(method, path, body, head)
        answer = Answer(self.http.getresponse())
        if expect is not None:
            assert answer.status == expect, (answer.status, answer.body)
        return answer

    def post(self, body: Any, expect: int | None = 201, **headers: str) -> Answer:
        return self.send("POST", "/api/tasks/", body, expect, **headers)

    def get(self, path: str, expect: int | None = 200) -> Answer:
        return self.send("GET", path, None, expect)

    def patch(self, path: str, expect: int | None = 200) -> Answer:
        return self.send("PATCH", path, None, expect)
