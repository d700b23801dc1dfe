# SPDX-License-Identifier: MIT
"""What a handler says of itself through its own NOTIFY_SOCKET: progress, signs of life, a wish for more time."""

import json
import os
import pathlib
import shutil
from collections.abc import Callable

import pytest
from psycopg import Connection

from support.process import eventually

from .conftest import Mill

PYTHON = """
import array, os, socket, sys, time
def say(text, *descriptors):
    data = text if isinstance(text, bytes) else text.encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.connect(os.environ["NOTIFY_SOCKET"])
        s.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else [])
"""


def handler(mill: Mill, script: str, **keys: str) -> None:
    """A handler in Python that can say something."""
    program = mill.folder / "t.py"
    program.write_text(PYTHON + script)
    mill.conf("t", Exec=f"/usr/bin/python3 {program}", **({"MaxAttempts": "1"} | keys))


def said(mill: Mill, id: object) -> tuple[float | None, str | None]:
    task = mill.show(id)
    return task["progress"], task["status_text"]


@pytest.mark.skipif(not shutil.which("systemd-notify"), reason="needs systemd-notify")
def test_systemd_notify_is_heard_and_does_not_wait(mill: Mill) -> None:
    mill.handler("t", """
        systemd-notify --ready --status="Encoding, 40 %" X_PGMILL_PROGRESS=40.5 || exit 3
        until [ -e $J ]; do sleep 0.1; done
        systemd-notify --status="Done" X_PGMILL_PROGRESS=100 || exit 4""", MaxAttempts="1")
    mill.start()
    id = mill.submit("t")
    eventually(lambda: said(mill, id) == (40.5, "Encoding, 40 %"))
    assert mill.show(id)["status"] == "RUNNING"
    mill.journal.touch()
    mill.ended(id)  # it exits with 3 or 4 if its descriptor of BARRIER=1 is not closed
    assert said(mill, id) == (100, "Done")


@pytest.mark.parametrize("message, expected", [
    ("X_PGMILL_PROGRESS=0", (0, None)),
    ("STATUS=a\nX_PGMILL_PROGRESS=7.25\nREADY=1\n", (7.25, "a")),
    ("X_PGMILL_PROGRESS=100.1\nSTATUS=b", (None, "b")),
    ("X_PGMILL_PROGRESS=-1\nX_PGMILL_PROGRESS=1e1\nX_PGMILL_PROGRESS=\nX_PGMILL_PROGRESS=5%\nSTATUS=c", (None, "c")),
    ("STATUS=d\t\x1b[1mü \\ \"", (None, "d  [1mü \\ \"")),
    ("STATUS=" + "€" * 100, (None, "€" * 66)),
    ("STATUS=e\0", (None, "e")),
])
def test_what_is_said_last_is_in_the_task(mill: Mill, message: str, expected: tuple) -> None:
    handler(mill, f'say("STATUS=before")\nsay("STATUS=")\nsay({message!r})')
    mill.start()
    id = mill.submit("t")
    mill.ended(id)
    assert said(mill, id) == expected


def test_what_makes_no_sense_is_ignored_and_descriptors_are_closed(mill: Mill) -> None:
    handler(mill, r"""
for text in (b"\xff\xfe", b"STATUS=a\0STATUS=b", b"STATUS=" + 5000 * b"x", b"", b"STATUS", b"\n\n=", 4090 * b"FDSTORE"):
    say(text)
for i in range(100):
    say("FDSTORE=1\nBARRIER=1", 0, 1, 2)
say("X_PGMILL_PROGRESS=50")
while not os.path.exists(sys.argv[1]):
    time.sleep(0.05)
""")
    mill.conf("t", Exec=f"/usr/bin/python3 {mill.folder}/t.py {mill.journal}")
    worker = mill.start()
    descriptors = pathlib.Path(f"/proc/{worker.popen.pid}/fd")
    id = mill.submit("t")
    eventually(lambda: said(mill, id) == (50, None))
    assert len(list(descriptors.iterdir())) < 60
    mill.journal.touch()
    mill.ended(id)


def test_an_attempt_begins_with_nothing_said(mill: Mill) -> None:
    handler(mill, """
if os.environ["PGMILL_ATTEMPT"] == "1":
    say("STATUS=first\\nX_PGMILL_PROGRESS=10")
    sys.exit(1)
while not os.path.exists(os.environ["PGMILL_DIRECTORY"] + "/../../journal"):
    time.sleep(0.05)
""", MaxAttempts="2", Backoff="fixed 10ms")
    worker = mill.start(environment={"TMPDIR": str(mill.folder)})
    id = mill.submit("t")
    task = eventually(lambda: (task := mill.show(id))["attempt"] == 2 and task["status"] == "RUNNING" and task)
    assert (task["progress"], task["status_text"]) == (None, None)
    mill.journal.touch()
    mill.ended(id)
    assert worker.log.count("no socket") == 0


def test_many_words_are_few_updates_and_events(mill: Mill) -> None:
    handler(mill, """
for i in range(300):
    say(f"X_PGMILL_PROGRESS={i / 3:.2f}")
    time.sleep(0.01)
""")
    mill.start()
    events: list[dict] = []
    mill.db.add_notify_handler(lambda notify: events.extend(json.loads(notify.payload)))
    mill.db.execute("SELECT pgmill.watch(gen_random_uuid())")
    id = mill.submit("t")
    mill.ended(id)
    told = [event["progress"] for event in events if event["status"] == "RUNNING" and "progress" in event]
    assert told == sorted(told) and 2 <= len(told) < 100  # three seconds or, on a busy machine, some more
    assert said(mill, id) == (99.67, None)


def test_what_is_said_while_a_client_holds_the_task_comes_later(mill: Mill, connect: Callable[..., Connection]) -> None:
    go = mill.folder / "go"
    os.mkfifo(go)
    handler(mill, f'open("{go}").read()\nsay("STATUS=held")\n'
                  'open(os.environ["PGMILL_DIRECTORY"] + "/../../journal", "w")\ntime.sleep(3)')
    mill.start(environment={"TMPDIR": str(mill.folder)})
    client = connect(autocommit=False)
    id = mill.submit("t")
    mill.until(id, "RUNNING")
    client.execute("SELECT FROM pgmill.tasks WHERE id = %s FOR UPDATE", [id])
    go.write_text("")  # waits until it is read
    eventually(mill.journal.exists)
    free = mill.submit("t")
    mill.until(free, "RUNNING")
    go.write_text("")
    eventually(lambda: said(mill, free) == (None, "held"))  # which came a report later
    assert said(mill, id) == (None, None)
    client.rollback()
    mill.ended(id)
    assert said(mill, id) == (None, "held")


def test_the_socket_goes_with_the_attempt(mill: Mill) -> None:
    mill.handler("t", 'ls -l "$NOTIFY_SOCKET" >&2; echo "\\"$NOTIFY_SOCKET\\""')
    mill.start()
    path = mill.ended(mill.submit("t"))["result"]
    assert path.startswith("/") and not os.path.exists(path)


# ---- the watchdog ----


def test_no_sign_of_life_ends_it(mill: Mill) -> None:
    mill.handler("t", 'echo "$WATCHDOG_USEC" >>$J; exec sleep 1000', WatchdogSec="500ms", MaxAttempts="2")
    mill.start()
    task = mill.ended(mill.submit("t"), "FAILED")
    assert [error["error"] for error in task["errors"]] == ["watchdog: no sign of life for 0.5 s"] * 2
    assert mill.runs() == ["500000"] * 2


def test_signs_of_life_keep_it_going(mill: Mill) -> None:
    handler(mill, """
for _ in range(60):
    say("WATCHDOG=1")
    time.sleep(0.1)
""", WatchdogSec="4s")
    mill.start()
    mill.ended(mill.submit("t"))


def test_it_may_ask_for_its_end(mill: Mill) -> None:
    handler(mill, 'say("WATCHDOG=trigger")\ntime.sleep(1000)', WatchdogSec="1h")
    mill.start()
    assert mill.ended(mill.submit("t"), "FAILED")["error"].startswith("watchdog")


# ---- more time ----


def test_who_goes_on_asking_for_time_goes_on(mill: Mill) -> None:
    handler(mill, """
for _ in range(12):
    say("EXTEND_TIMEOUT_USEC=4000000")
    time.sleep(0.5)
print(1)
""", Timeout="4s")
    mill.start()
    assert mill.ended(mill.submit("t"))["result"] == 1


def test_who_falls_silent_gets_one_timeout_more_at_most(mill: Mill) -> None:
    handler(mill, 'say("EXTEND_TIMEOUT_USEC=999999999999999")\nsay("EXTEND_TIMEOUT_USEC=1")\ntime.sleep(1000)', Timeout="1s")
    mill.start()
    assert mill.ended(mill.submit("t"), "FAILED")["error"] == "timed out after 1 s"


def test_what_it_says_while_others_lock_the_tasks_is_kept(mill: Mill, connect: Callable[..., Connection]) -> None:
    handler(mill, f"""
while not os.path.exists("{mill.folder}/say"):
    time.sleep(0.05)
say("STATUS=locked out")
open("{mill.folder}/said", "w").close()
while not os.path.exists("{mill.folder}/end"):
    time.sleep(0.05)
""")
    mill.start("w", "--grace", "3s", "--concurrency", "1")
    id = mill.submit("t")
    mill.until(id, "RUNNING")
    other = connect(autocommit=False)
    other.execute("LOCK TABLE pgmill.tasks IN SHARE MODE")
    (mill.folder / "say").touch()
    eventually((mill.folder / "said").exists)
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'report'"
    eventually(lambda: mill.db.execute(waits).fetchone()[0])
    eventually(lambda: not mill.db.execute(waits).fetchone()[0])  # it was refused
    other.rollback()
    eventually(lambda: said(mill, id)[1] == "locked out")
    (mill.folder / "end").touch()
    mill.ended(id)
