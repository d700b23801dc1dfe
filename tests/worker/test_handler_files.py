# SPDX-License-Identifier: MIT
"""pgmill handlers: what a host can run, and what is wrong with its files."""

import json
import os
import pathlib
import subprocess

import pytest


@pytest.fixture
def handlers(pgmill: str, folder: pathlib.Path):
    """handlers({"a.conf": "…"}) puts files into a folder and asks; (exit status, lines of JSON, complaints)."""

    def ask(files: dict[str, str], *options: str, path: str = "") -> tuple[int, list[dict], str]:
        for name, text in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
        command = [pgmill, "handlers", "--tasks", path or str(folder), "--json", *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr

    return ask


def test_it_lists_every_key_and_where_it_stands(handlers, folder: pathlib.Path) -> None:
    text = '[Task]\nExec=/bin/echo "two words" x\nTimeout=90s\nMaxAttempts=7\nConcurrency=2\nReadAhead=16\n'
    status, found, complaints = handlers({"b.conf": text} | dict.fromkeys(["a-b.conf", "a.conf"], "[Task]\nExec=/bin/true\n"))
    assert (status, complaints) == (os.EX_OK, "")
    assert [handler["name"] for handler in found] == ["a", "a-b", "b"]
    assert found[2].items() >= {
        "mode": "oneshot", "exec": ["/bin/echo", "two words", "x"], "timeout": 90, "max_attempts": 7, "concurrency": 2,
        "read_ahead": 16, "file": str(folder / "b.conf")}.items()
    assert found[0]["timeout"] is None and found[0]["concurrency"] is None


def test_it_is_a_table_for_people(pgmill: str, folder: pathlib.Path) -> None:
    (folder / "a.conf").write_text("[Task]\nExec=/bin/echo x\nTimeout=120s\n")
    text = subprocess.check_output([pgmill, "handlers", "--tasks", str(folder)], text=True)
    assert text.splitlines()[1].split() == ["a", "oneshot", "2min", "3", str(folder / "a.conf"), "/bin/echo", "x"]


@pytest.mark.parametrize("text, complaint", [
    ("[Task]\nExec=bin/true\n", "a.conf:2: Exec=bin/true: must be an absolute path"),
    ("[Task]\nExec=/bin/true\nTimeout=soon\n", "a.conf:3: Timeout=soon: must be a span of time"),
    ("[Task]\nExec=/bin/true\nMaxAttempts=0\n", "a.conf:3: MaxAttempts=0: must be a number from 1 to 1000"),
    *((f"[Task]\nExec=/bin/true\nBackoff={value}\n", f"a.conf:3: Backoff={value}: must be") for value in (
        "fast", "fixed", "fixed 1s 2s", "exponential 1s", "exponential 2s 1s", "exponential 1s 1h 1h", "1s later",
        "9999d", "infinity", " ".join(["1s"] * 17))),
    ("[Task]\nExec=/bin/true\nDeferMax=-1\n", "a.conf:3: DeferMax=-1: must be a number"),
    ("[Task]\nExec=/bin/true\nExec=\n", "a.conf: has no Exec=, which Mode=oneshot needs"),
    ("[Task]\nwhat is this\n", "a.conf:2: neither [Section] nor Key=Value"),
    ("[Task]\nExec=/bin/true " + "x" * 300 + "\n", "a.conf:2: neither [Section] nor Key=Value, too long a line"),
    ("[Task]\nExec=/nonexistent\n", "a.conf: cannot run /nonexistent: No such file or directory"),
])
def test_a_file_that_cannot_be_used_is_status_78(handlers, text: str, complaint: str) -> None:
    status, _, complaints = handlers({"a.conf": text})
    assert status == os.EX_CONFIG
    assert complaint in complaints


def test_an_unknown_key_is_a_warning(handlers) -> None:
    status, found, complaints = handlers({"a.conf": "[Task]\nExec=/bin/true\n\nColour=red\n"})
    assert (status, len(found)) == (os.EX_OK, 1)
    assert "warning: " in complaints and "a.conf:4: there is no Colour= in section [Task]; ignored" in complaints


OF_PROGRAMS = ("LogRateLimitIntervalSec=1s", "LogRateLimitBurst=5", "MemoryMax=1G", "MemoryHigh=1G", "TasksMax=5", "CPUWeight=5",
               "CPUQuota=50%")
OF_ALL = ("Concurrency=2", "Timeout=5s", "KillGrace=1s", "MaxAttempts=2", "Backoff=1s", "DeferMax=2")
OF_SQL = ("Sql=SELECT 1", "Role=app", "Database=dbname=x")


@pytest.mark.parametrize("mode, needs, good, bad", [
    ("oneshot", "Exec=/bin/true", (*OF_ALL, *OF_PROGRAMS, "WatchdogSec=5s"), OF_SQL),
    ("stream", "Exec=/bin/true", (*OF_ALL, *OF_PROGRAMS), (*OF_SQL, "WatchdogSec=5s")),
    ("sql", "Sql=SELECT 1", (*OF_ALL, *OF_SQL), (*OF_PROGRAMS, "WatchdogSec=5s", "Exec=/bin/true")),
])
def test_a_key_that_its_mode_has_no_use_for_is_a_warning(handlers, mode: str, needs: str, good: tuple, bad: tuple) -> None:
    lines = [needs, *good, *bad, f"Mode={mode}"]
    status, found, complaints = handlers({"a.conf": "[Task]\n" + "\n".join(lines) + "\n"})
    assert (status, len(found)) == (os.EX_OK, 1)
    warned = {line.split("a.conf:")[1].split("=")[0] for line in complaints.splitlines()}
    assert warned == {f"{lines.index(line) + 2}: {line.split('=')[0]}" for line in bad}
    assert all(f"has no effect with Mode={mode}" in line for line in complaints.splitlines())


def test_such_a_key_is_named_where_it_stands_last(handlers, folder: pathlib.Path) -> None:
    files = {"a.conf": "[Task]\nWatchdogSec=5s\nExec=/bin/true\nMemoryMax=1G\n",
             "a.conf.d/b.conf": "[Task]\nSql=SELECT 1\nMemoryMax=\nMode=sql\nExec=\nWatchdogSec=6s\n"}
    _, _, complaints = handlers(files)
    assert complaints.count("\n") == 1 and f"{folder}/a.conf.d/b.conf:6: WatchdogSec= has no effect" in complaints


def test_a_broken_file_in_front_is_not_replaced_by_one_behind(handlers, folder: pathlib.Path) -> None:
    files = {"etc/a.conf": "[Task]\nExec=nonsense\n", "usr/a.conf": "[Task]\nExec=/bin/true\n"}
    status, found, complaints = handlers(files, path=f"{folder}/etc:{folder}/usr")
    assert (status, found) == (os.EX_CONFIG, []) and complaints.count("\n") == 1
