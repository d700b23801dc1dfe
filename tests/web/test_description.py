# SPDX-License-Identifier: MIT
"""The API's description: true to the routes, good OpenAPI, and of use to whoever generates a client from it."""

import gzip
import json
import pathlib
import re
import subprocess
from collections.abc import Callable

import jsonschema
import psycopg
import pytest

from description import Description
from support.api import Client
from support.node import FOLDER, ROOT, node

HERE = pathlib.Path(__file__).parent
DESCRIPTION = ROOT / "src/api/web/openapi.json"


def test_it_describes_the_routes_there_are_and_no_others(api: Client) -> None:
    # The index prints the route table.
    rows = re.findall(r"^([A-Z]+ +/\S*) +(\S+) ", api.get("/").body.decode(), re.MULTILINE)
    described = {str(operation): operation.scope or "-" for operation in Description(DESCRIPTION).operations}
    assert described == {" ".join(route.split()): scope for route, scope in rows}


def test_it_describes_what_happens_without_the_right_token(
        pgmill: str, folder: pathlib.Path, start_api: Callable) -> None:
    file = folder / "tokens"

    def new_token(scope: str) -> str:
        command = [pgmill, "token", "new", "--scope", scope, "--file", str(file), scope]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    tokens = {scope: new_token(scope) for scope in ("submit", "read")}
    client = start_api(environment={"PGMILL_TOKENS": str(file)}).client()
    description = Description(DESCRIPTION)
    for operation in description.operations:
        other = tokens["read" if operation.scope == "submit" else "submit"]
        for status, shown in ((401, {}), (403, {"Authorization": f"Bearer {other}"})):
            if operation.scope:
                answer = client.send(operation.method, operation.path.replace("{", "").replace("}", ""), **shown)
                assert answer.status == status, operation
                assert not description.complaint(operation, status, answer.headers, answer.body)


def test_the_executable_prints_and_serves_it(pgmill: str, api: Client) -> None:
    text = DESCRIPTION.read_bytes()
    assert subprocess.run([pgmill, "openapi"], check=True, capture_output=True).stdout == text
    answer = api.get("/openapi.json")
    assert answer.body == text and answer.headers["Content-Type"] == "application/json"


def test_the_problems_it_names_are_those_that_are_explained(api: Client) -> None:
    explained = set(re.findall(r'<dt id="([a-z-]+)">', api.get("/docs/problems").body.decode()))
    answers = json.dumps([operation.answers for operation in Description(DESCRIPTION).operations])
    named = set(re.findall(r"`([a-z]+(?:-[a-z]+)+|busy|forbidden|unauthorized|internal)`", answers))
    # Of a wrong path or method no operation can tell.
    assert named | {"method-not-allowed", "no-such-resource"} == explained | {"no-such-resource"}


def test_its_examples_are_what_it_describes() -> None:
    """By a validator that takes date-time as RFC 3339 has it."""
    document = json.loads(DESCRIPTION.read_text())
    description = Description(DESCRIPTION)
    time = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
    checker = jsonschema.FormatChecker(["uuid"])
    checker.checks("date-time")(lambda value: not isinstance(value, str) or bool(time.fullmatch(value)))
    found = 0

    def look(node: object) -> None:
        nonlocal found
        if isinstance(node, list):
            for element in node:
                look(element)
        if not isinstance(node, dict):
            return
        if isinstance(node.get("schema"), dict):
            examples = [example["value"] for example in map(description.resolve, node.get("examples", {}).values())]
            for example in examples + [node[key] for key in ("example",) if key in node]:
                jsonschema.Draft202012Validator(
                    description.resolve(node["schema"]), format_checker=checker).validate(example)
                found += 1
        for value in node.values():
            look(value)

    look(document)
    assert found > 10


@pytest.mark.parametrize("path", ["/docs", "/docs/", "/openapi.json", "/docs/rapidoc.js"])
def test_a_page_that_is_known_is_not_sent_again(api: Client, path: str) -> None:
    first = api.get(path)
    tag = first.headers["ETag"]
    for known in (tag, f'"other", W/{tag}', "*"):
        again = api.send("GET", path, expect=304, If_None_Match=known)
        assert again.body == b"" and again.headers["ETag"] == tag
    assert api.send("GET", path, expect=200, If_None_Match='"other"').body == first.body
    head = api.send("HEAD", path, expect=200)
    assert head.body == b"" and head.headers["Content-Length"] == str(len(first.body))


def test_the_page_may_run_its_own_script_only(api: Client) -> None:
    page = api.get("/docs")
    policy = dict(rule.strip().split(" ", 1) for rule in page.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'" and policy["script-src"] == policy["connect-src"] == "'self'"
    assert re.findall(rb'<script src="([^"]*)" defer></script>', page.body) == [b"/docs/rapidoc.js"]
    script = api.get("/docs/rapidoc.js")
    assert script.headers["Content-Encoding"] == "gzip"
    assert b"rapi-doc" in gzip.decompress(script.body)


def test_a_linter_finds_nothing_to_say() -> None:
    done = node("lint.js", str(DESCRIPTION), files=[HERE / "lint.js"], check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.long
def test_a_client_with_generated_types_compiles_and_works(start_api: Callable, db: psycopg.Connection) -> None:
    node("node_modules/openapi-typescript/bin/cli.js", str(DESCRIPTION), "-o", "api.ts", files=[])
    node("node_modules/typescript/bin/tsc", "--strict", "--noEmitOnError", "--target", "es2022", "--module", "nodenext",
         "client.ts", files=[HERE / "client.ts"])
    task = node("client.js", f"http://127.0.0.1:{start_api().port}", files=[]).stdout.strip()
    assert db.execute("SELECT status FROM pgmill.task WHERE id = %s", [task]).fetchone() == ("PAUSED",)
    assert (FOLDER / "client.js").exists()
