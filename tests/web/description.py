# SPDX-License-Identifier: MIT
"""openapi.json as a source of requests and a judge of answers. Knows OpenAPI and nothing of the service."""

import dataclasses
import json
import pathlib
import random
import re
import string
import uuid
from typing import Any

import jsonschema

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
LABEL = string.ascii_letters + string.digits + "_.-"
ALPHABETS = (LABEL, string.printable[:95], LABEL + "äß€𝄞\u2028 \"\\/")


@dataclasses.dataclass
class Operation:
    method: str
    path: str
    scope: str | None  # that a token needs
    parameters: list[dict]
    body: dict | None  # its schema
    body_required: bool
    answers: dict[str, dict]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Description:
    def __init__(self, path: pathlib.Path) -> None:
        self.document = json.loads(path.read_text())
        self.operations = [self._operation(method, path, item)
                           for path, item in self.document["paths"].items() for method in item if method in METHODS]
        self.validators: dict[tuple[str, str, str], jsonschema.Draft202012Validator] = {}

    def _operation(self, method: str, path: str, item: dict) -> Operation:
        told = item[method]
        body = self.resolve(told.get("requestBody"))
        scope = told["security"][0]["bearer"][0] if told["security"] else None
        return Operation(method.upper(), path, scope, self.resolve(item.get("parameters", []) + told.get("parameters", [])),
                         body and body["content"]["application/json"]["schema"],
                         bool(body and body.get("required")), self.resolve(told["responses"]))

    def resolve(self, node: Any) -> Any:
        """Without $ref and allOf. Nothing in the document refers to itself."""
        if isinstance(node, list):
            return [self.resolve(element) for element in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            target = self.document
            for step in node["$ref"].removeprefix("#/").split("/"):
                target = target[step.replace("~1", "/").replace("~0", "~")]
            return self.resolve(target) | {key: self.resolve(node[key]) for key in node if key != "$ref"}
        node = {key: self.resolve(value) for key, value in node.items()}
        for part in node.pop("allOf", []):
            node["type"] = part["type"]
            node["properties"] = node.get("properties", {}) | part["properties"]
            node["required"] = node.get("required", []) + part["required"]
        return node

    def complaint(self, operation: Operation, status: int, headers: Any, body: bytes) -> str | None:
        """What is wrong with an answer, if anything."""
        if not (told := operation.answers.get(str(status))):
            return f"the status {status} is not described"
        for name, header in told.get("headers", {}).items():
            if header.get("required") and name not in headers:
                return f"there is no header {name}"
        if "Content-Type" not in headers:
            own_page = "page" in told["description"] and body.startswith(b"<html>")  # libmicrohttpd does not type them
            return "there is a body" if body and not own_page else None
        kind = headers["Content-Type"].partition(";")[0]
        if kind not in told.get("content", {}):
            return f"the media type {kind} is not described"
        if not kind.endswith("json"):
            return None
        where = (str(operation), str(status), kind)
        if where not in self.validators:
            schema = closed(told["content"][kind]["schema"])
            self.validators[where] = jsonschema.Draft202012Validator(
                schema, format_checker=jsonschema.FormatChecker(["uuid"]))
        content = json.loads(body)
        if kind == "application/problem+json" and content.get("status") != status:
            return "the problem tells another status"
        error = jsonschema.exceptions.best_match(self.validators[where].iter_errors(content))
        return error and f"at {list(error.absolute_path)}: {error.message}"


def closed(schema: Any) -> Any:
    """The schema of an answer, made to refuse members that it does not describe."""
    if isinstance(schema, list):
        return [closed(element) for element in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items() if key not in ("example", "examples")}
    if isinstance(schema.get("properties"), dict):
        made.setdefault("additionalProperties", False)
    return made


class Maker:
    """Makes values that a schema allows, at its edges more often than not, and some that it does not."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def value(self, schema: dict) -> Any:
        if "anyOf" in schema:
            return self.value(self.random.choice(schema["anyOf"]))
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self.random.choice(schema["enum"])
        kinds = schema.get("type", "any")
        kind = self.random.choice(kinds) if isinstance(kinds, list) else kinds
        return getattr(self, f"a_{kind}")(schema)

    def a_null(self, _: dict) -> None:
        return None

    def a_boolean(self, _: dict) -> bool:
        return self.chance(0.5)

    def a_integer(self, schema: dict) -> int:
        low, high = schema["minimum"], schema["maximum"]
        return self.random.choice([low, high, self.random.randint(low, high)])

    def a_number(self, schema: dict) -> float:
        low, high = schema["minimum"], schema["maximum"]
        return self.random.choice([low, high, round(self.random.uniform(low, high), 3)])

    def a_string(self, schema: dict) -> str:
        if schema.get("format") == "uuid":
            return str(uuid.UUID(int=self.random.getrandbits(128), version=4))
        if schema.get("format") == "date-time":
            return self.a_time()
        low, high = schema.get("minLength", 0), schema.get("maxLength", 100)
        while True:  # a few tries do for every pattern there is
            length = self.random.choice([low, high, self.random.randint(low, min(high, 20))])
            text = "".join(self.random.choices(self.random.choice(ALPHABETS), k=length))
            if re.search(schema.get("pattern", ""), text) and len(text.encode()) <= high:
                return text

    def a_time(self) -> str:
        r = self.random
        zone = r.choice(["", "Z", "z", "+00:00", "-11:30", "+14:00"])
        return (f"{r.randint(1971, 9998)}-{r.randint(1, 12):02}-{r.randint(1, 28):02}{r.choice('Tt')}{r.randint(0, 23):02}"
                f":{r.randint(0, 59):02}:{r.randint(0, 59):02}{r.choice(['', '.5', '.123456', '.000000001'])}{zone}")

    def a_array(self, schema: dict) -> list:
        low, high = schema.get("minItems", 0), min(schema["maxItems"], 20)
        return [self.value(schema["items"]) for _ in range(self.random.choice([low, high, self.random.randint(low, 3)]))]

    def a_object(self, schema: dict) -> dict:
        required = schema.get("required", [])
        return {name: self.value(inner) for name, inner in schema.get("properties", {}).items()
                if name in required or self.chance(0.35)}

    def a_any(self, _: dict, depth: int = 0) -> Any:
        r = self.random
        simple = [None, True, 0, -1, 2**53 + 1, 10**40, 1.5e300, "", "\u0001\u007f", "𝄞 \u2028", "a" * 300]
        if depth > 4 or self.chance(0.5):
            return r.choice(simple)
        inner = [self.a_any({}, depth + 1) for _ in range(r.randint(0, 4))]
        return inner if self.chance(0.5) else {r.choice(["", "a", "ä", "name", "\\"]): value for value in inner}

    def wrong(self, schema: dict) -> Any:
        """A value that the schema does not allow."""
        validator = jsonschema.Draft202012Validator(schema)
        while True:
            value = self.bent(self.value(schema), schema)
            if not validator.is_valid(value):
                return value

    def bent(self, value: Any, schema: dict) -> Any:
        """The value with something changed somewhere."""
        properties = schema.get("properties", {})
        if isinstance(value, dict) and value and self.chance(0.6):
            name = self.random.choice(list(value))
            return value | {name: self.bent(value[name], properties.get(name, {}))}
        if isinstance(value, dict) and self.chance(0.7):
            if value and self.chance(0.5):
                value = dict(value)
                del value[self.random.choice(list(value))]
                return value
            return value | {self.random.choice(["", "Name", "nam", "ä\u0001", "x" * 500]): self.a_any({})}
        if isinstance(value, list) and value and self.chance(0.6):
            return value[:-1] + [self.bent(value[-1], schema.get("items", {}))]
        if isinstance(value, list) and self.chance(0.5):
            return value + [self.value(schema.get("items", {})) for _ in range(schema.get("maxItems", 3) + 1)]
        others: list[Any] = [None, True, "", "-", "x" * 1001, "ä" * 101, -1, 0, 1.5, 10**6 + 1, 1e300, -(2**70), [], [[]], {}]
        return self.random.choice(others)
