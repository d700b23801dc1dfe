# SPDX-License-Identifier: MIT
"""The API's description: true to the routes, good OpenAPI, and of use to whoever generates a client from it."""

import gzip
import json
import pathlib
import re
import subprocess
from collections.abc import Callable

import psycopg
import pytest

from support.api import Client
from support.node import FOLDER, ROOT, node

HERE = pathlib.Path(__file__).parent
DESCRIPTION = ROOT / "src/api/web/openapi.json"
METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


def described() -> dict[tuple[str, str], dict]:
    """(method, path) → operation"""
    paths = json.loads(DESCRIPTION.read_text())["paths"]
    return {(method.upper(), path): operation for path, item in paths.items()
            for method, operation in item.items() if method in METHODS}


def served(api: Client) -> set[tuple[str, str]]:
    """The rows of the route table, as the index prints them."""
    text = api.get("/").body.decode()
    return {(method, path) for method, path in re.findall(r"^([A-Z]+) +(/\S*) ", text, re.MULTILINE)}


def test_it_describes_the_routes_there_are_and_no_others(api: Client) -> None:
    assert served(api) == set(described())


def test_the_executable_prints_and_serves_it(pgmill: str, api: Client) -> None:
    text = DESCRIPTION.read_bytes()
    assert subprocess.run([pgmill, "openapi"], check=True, capture_output=True).stdout == text
    answer = api.get("/openapi.json")
    assert answer.body == text and answer.headers["Content-Type"] == "application/json"


def test_the_problems_it_names_are_those_that_are_explained(api: Client) -> None:
    explained = set(re.findall(r'<dt id="([a-z-]+)">', api.get("/docs/problems").body.decode()))
    answers = json.dumps([[op["responses"] for op in described().values()],
                          json.loads(DESCRIPTION.read_text())["components"]["responses"]])
    named = set(re.findall(r"`([a-z]+(?:-[a-z]+)+|busy|forbidden|unauthorized|internal)`", answers))
    # Of a wrong path or method no operation can tell.
    assert named | {"method-not-allowed", "no-such-resource"} == explained | {"no-such-resource"}


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


def test_a_client_with_generated_types_compiles_and_works(start_api: Callable, db: psycopg.Connection) -> None:
    node("node_modules/openapi-typescript/bin/cli.js", str(DESCRIPTION), "-o", "api.ts", files=[])
    node("node_modules/typescript/bin/tsc", "--strict", "--noEmitOnError", "--target", "es2022", "--module", "nodenext",
         "client.ts", files=[HERE / "client.ts"])
    task = node("client.js", f"http://127.0.0.1:{start_api().port}", files=[]).stdout.strip()
    assert db.execute("SELECT status FROM pgmill.task WHERE id = %s", [task]).fetchone() == ("PAUSED",)
    assert (FOLDER / "client.js").exists()
