# SPDX-License-Identifier: MIT
"""What a handler gets, and what becomes of what it does."""

import datetime
import json
import pathlib
import resource
import signal

import psycopg
import pytest

from support.node import ROOT
from support.process import eventually

from .conftest import Mill, alive


@pytest.mark.parametrize("script, result", [
    ("cat", {"a": [1, "ü"]}),
    ("echo '  [1, 2]  '", [1, 2]),
    ("echo hello; echo world", "hello\nworld"),
    ("true", None),
    ("echo '{\"half\":'", '{"half":'),
    ("exec 0<&-; echo 1", 1),
])
def test_standard_output_is_the_result(mill: Mill, script: str, result: object) -> None:
    assert mill.result("t", script, '{"a": [1, "ü"]}') == result


def test_a_payload_larger_than_a_pipe_arrives(mill: Mill) -> None:
    assert mill.result("t", "wc -c", '"' + "x" * 900_000 + '"') == 900_002


def test_the_payload_is_whole_whatever_becomes_of_the_worker(mill: Mill) -> None:
    """What the program left behind reads its standard input when the worker is gone."""
    mill.handler("t", f"""exec 3<&0; cd {mill.folder}
        (while [ ! -e go ]; do sleep 0.05; done; wc -c <&3 >>$J) & echo begun >>$J; exec sleep 1000""")
    worker = mill.start()
    mill.submit("t", '"' + "x" * 900_000 + '"')
    eventually(mill.runs)
    worker.kill()
    (mill.folder / "go").touch()
    assert eventually(lambda: mill.runs()[1:]) == ["900002"]


def test_the_payload_cannot_be_changed_and_begins_anew_for_whoever_opens_it(mill: Mill) -> None:
    script = "cat; echo; cat /dev/stdin; echo; echo x 2>/dev/null >&0 || echo no; cat /dev/stdin"
    assert mill.result("t", script, '"x"').splitlines() == ['"x"', '"x"', "no", '"x"']


def test_numbers_survive(mill: Mill) -> None:
    mill.handler("t", "cat")
    mill.start()
    id = mill.submit("t", "9007199254740993")
    mill.ended(id)
    query = "SELECT result::text FROM pgmill.task WHERE id = %s"
    assert mill.db.execute(query, [id]).fetchone() == ("9007199254740993",)


def test_a_handler_sees_nothing_of_its_worker(mill: Mill) -> None:
    mill.handler("t", "env | cut -d= -f1 | sort | tr '\\n' ' '; ls /proc/self/fd | wc -l")
    mill.start(environment={"SECRET": "x", "PGPASSWORD": "y", "HOME": "/root", "USER": "root", "LOGNAME": "root",
                            "TZ": "UTC", "CREDENTIALS_DIRECTORY": "/run/credentials"}, watchdog=20)
    names = mill.ended(mill.submit("t"))["result"].split()
    assert names == ["HOME", "LANG", "LOGNAME", "NOTIFY_SOCKET", "PATH", "PGMILL_ATTEMPT", "PGMILL_DIRECTORY", "PGMILL_NAME",
                     "PGMILL_QUEUE", "PGMILL_TASK", "PWD", "TMPDIR", "TZ", "USER", "4"]


def test_a_program_works_in_a_folder_of_its_own_that_goes_with_it(mill: Mill) -> None:
    outside = mill.folder / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    mill.handler("t", f"pwd; echo $PGMILL_DIRECTORY; mktemp -u; stat -c %a .; mkdir -p a/b; touch a/b/c; chmod 0 a/b; "
                      f"ln -s {outside} link; ln -s {outside}/precious a/d")
    mill.handler("empty", "pwd")
    worker = mill.start()
    used, named, temporary, mode = mill.ended(mill.submit("t"))["result"].splitlines()
    empty = mill.ended(mill.submit("empty"))["result"]
    assert used == named == str(pathlib.Path(temporary).parent) and mode == "700" and used != empty
    assert pathlib.Path(used).is_relative_to(mill.folder / "tmp")  # TMPDIR= of a test's workers
    assert not pathlib.Path(empty).exists()
    eventually(lambda: not pathlib.Path(used).exists())
    worker.stop()
    eventually(lambda: not pathlib.Path(used).parent.exists())
    assert (outside / "precious").exists()


def test_programs_have_the_file_mode_mask_of_their_worker(mill: Mill) -> None:
    mill.surroundings = {"before": ["/bin/sh", "-c", 'umask 0027; exec "$@"', "sh"]}
    assert mill.result("t", "umask") == "0027"


@pytest.mark.parametrize("handler", ["its own", "contrib/handlers/shell"])
def test_programs_begin_with_default_signals(mill: Mill, handler: str) -> None:
    """Ignored, SIGPIPE makes the first program of a pipeline fail."""
    script = r"sed -En 's/^Sig(Blk|Ign):\s*/x/p' /proc/self/status"
    if handler == "its own":
        mill.handler("t", script)
    else:
        mill.conf("t", Exec=str(ROOT / handler))
    mill.surroundings = {"before": ["/usr/bin/env", "--ignore-signal", "--block-signal"]}
    mill.start()
    signals = mill.ended(mill.submit("t", json.dumps({"script": script})))["result"]
    assert signals.splitlines() == ["x0000000000000000"] * 2


def test_its_variables_name_the_task(mill: Mill) -> None:
    mill.handler("t", 'echo "$PGMILL_TASK $PGMILL_NAME $PGMILL_QUEUE $PGMILL_ATTEMPT"')
    mill.start("w", "--queues", "other,mail")
    id = mill.submit("t", queue="mail")
    assert mill.ended(id)["result"] == f"{id} t mail 1"


@pytest.mark.parametrize("script, error, more", [
    ("echo no >&2; exit 3", "exit status 3", {"exit_status": 3, "stderr": "no\n"}),
    ("kill -SEGV $$", "ended by signal 11 (Segmentation fault)", {"signal": "SIGSEGV"}),
    ("exit 65", "exit status 65", {"exit_status": 65}),
    ("exit 64", "exit status 64", {"exit_status": 64}),
])
def test_a_failure_says_what_went_wrong_and_the_worker_lives(
        mill: Mill, script: str, error: str, more: dict) -> None:
    mill.handler("t", script, MaxAttempts="2")
    mill.handler("fine", "echo 1")
    mill.start()
    task = mill.ended(mill.submit("t"), "FAILED")
    assert task["error"].startswith(error)
    assert task["errors"][0].items() >= more.items()
    final = script in ("exit 64", "exit 65")
    assert [e["attempt"] for e in task["errors"]] == ([1] if final else [1, 2])
    assert all(e["worker"] and e["at"].endswith("Z") for e in task["errors"])
    mill.ended(mill.submit("fine"))


@pytest.mark.parametrize("script, result, note", [
    ("printf 'caf\\351'", "caf\ufffd", "NUL bytes and bytes that are not UTF-8 are replaced by U+FFFD"),
    ("printf 'a\\000b\\000\\000'", "a\ufffdb\ufffd\ufffd", "NUL bytes and"),
    ("echo '\"\\\\u0000\"'", '"\\u0000"', "kept as text, since the database does not take this JSON: "),
    ("echo 1e999999", "1e999999", "kept as text, since"),
    ("yes 1 | tr -d '\\n' | head -c 2000000", "1" * 2**20, "cut, kept as text: 1048576 bytes"),
    ("printf x; yes ü | tr -d '\\n' | head -c 2000000", "x" + "ü" * (2**19 - 1), "cut, kept as text: 1048575 bytes"),
    ("echo é; echo said >&2", "é", None),
], ids=["Latin-1", "NUL", "U+0000", "number", "long", "half a character", "fine"])
def test_work_that_was_done_is_done_whatever_was_printed(mill: Mill, script: str, result: str, note: str | None) -> None:
    mill.handler("t", f"echo begun >>$J; {script}")
    worker = mill.start()
    task = mill.ended(mill.submit("t"))
    assert (task["result"], task["error"], len(mill.runs())) == (result, None, 1)
    assert task["result_note"] is None if note is None else task["result_note"].startswith(note)
    worker.wait_log(f"its result is not as it was written: {note}" if note else "Completed after")


def resting(mill: Mill) -> dict[str, dict[str, str]]:
    """Of each worker, what rests and why."""
    return dict(mill.db.execute("SELECT instance, resting FROM pgmill.workers ORDER BY id").fetchall())


@pytest.mark.parametrize("mode", ["oneshot", "stream"])
@pytest.mark.parametrize("path, error", [
    ("/nonexistent/program", "No such file or directory"),
    ("/etc/passwd", "Permission denied"),
])
def test_a_program_that_cannot_begin_costs_no_attempt_and_its_handler_rests(
        mill: Mill, path: str, error: str, mode: str) -> None:
    mill.conf("t", Exec=path, MaxAttempts="1", Mode=mode)
    mill.handler("other", "echo 1")
    worker = mill.start()
    ids = [mill.submit("t") for _ in range(6)]
    why = f"cannot start {path}: {error}"
    worker.wait_log(f"The handler of t rests for 1s, and its tasks go back uncounted: {why}")
    assert mill.ended(mill.submit("other"))["result"] == 1
    worker.wait_log(f"The handler of t rests for 2s, and its tasks go back uncounted: {why}")
    worker.wait_message("resting: t")
    assert resting(mill) == {"w": {"t": why}}
    for id in ids:
        task = mill.until(id, "AVAILABLE")
        assert (task["attempt"], task["errors"], task["started_at"]) == (0, [], None)
    if mode == "oneshot":  # it is there now, and the pause goes by
        (mill.tasks / "t.conf.d").mkdir()
        (mill.tasks / "t.conf.d/mended.conf").write_text("[Task]\nExec=/bin/true\n")
        worker.signal(signal.SIGHUP)
        assert all(mill.ended(id)["attempt"] == 1 for id in ids)
        eventually(lambda: resting(mill) == {"w": {}})


def test_a_handler_that_rests_goes_on_by_itself(mill: Mill) -> None:
    """However long what it begins then will take."""
    program = mill.folder / "later"
    mill.conf("t", Exec=str(program))
    worker = mill.start()
    id = mill.submit("t")
    eventually(lambda: resting(mill)["w"])
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    worker.wait_log("The handler of t rests no more", within=40)
    eventually(lambda: resting(mill) == {"w": {}})
    assert mill.show(id)["status"] == "RUNNING"


def test_other_workers_take_what_cannot_begin_on_one(mill: Mill) -> None:
    """Its folder for temporary files is gone; those of the others are there."""
    mill.handler("t", "echo 1", MaxAttempts="1")
    ill = mill.start("ill", environment={"TMPDIR": str(mill.folder / "gone")})
    ids = [mill.submit("t") for _ in range(36)]
    ill.wait_log("The handler of t rests for")
    mill.start("well")
    for id in ids:
        assert mill.ended(id)["attempt"] == 1
    eventually(lambda: resting(mill) == {"ill": {"t": resting(mill)["ill"]["t"]}, "well": {}})


def test_a_login_of_a_statement_that_is_refused_costs_no_attempt(mill: Mill) -> None:
    mill.conf("t", Mode="sql", Sql="SELECT $1, $2::uuid", Database="postgresql:///gone?user=nobody-of-this-name", MaxAttempts="1",
              DeferMax="1")
    worker = mill.start()
    id = mill.submit("t")
    worker.wait_log("The handler of t rests for 2s")
    task = mill.until(id, "AVAILABLE")
    assert (task["attempt"], task["errors"]) == (0, [])


def test_an_attempt_put_off_is_not_counted(mill: Mill) -> None:
    mill.handler("t", 'echo x >>$J; [ $(wc -l <$J) -ge 3 ] || exit 75', MaxAttempts="1")
    mill.start()
    task = mill.ended(mill.submit("t"))
    assert task["attempt"] == 1 and len(mill.runs()) == 3


def test_attempts_put_off_too_often_in_a_row_are_counted(mill: Mill) -> None:
    mill.handler("t", "echo x >>$J; exit 75", MaxAttempts="2", DeferMax="2", Backoff="1ms")
    mill.start()
    task = mill.ended(mill.submit("t"), "FAILED")
    assert len(mill.runs()) == 6 and [e["attempt"] for e in task["errors"]] == [1, 2]
    assert all(e["exit_status"] == 75 and e["started_at"] <= e["at"] for e in task["errors"])


def test_a_list_of_waits_repeats_its_last(mill: Mill) -> None:
    mill.handler("t", "exit 1", MaxAttempts="4", Backoff="1ms 300ms 600ms")
    mill.start()
    errors = mill.ended(mill.submit("t"), "FAILED")["errors"]
    times = [[datetime.datetime.fromisoformat(e[key]) for e in errors] for key in ("at", "started_at")]
    waits = [(started - ended).total_seconds() for ended, started in zip(times[0], times[1][1:])]
    assert waits[1] >= 0.3 and waits[2] >= 0.6


def test_a_failed_attempt_waits_for_its_backoff(mill: Mill) -> None:
    mill.handler("t", "exit 1", Backoff="fixed 1h")
    mill.start()
    task = mill.until(mill.submit("t"), "RETRYABLE")
    assert task["attempt"] == 1 and task["max_attempts"] == 3


@pytest.mark.parametrize("of_task", [False, True])
def test_a_timeout_ends_the_whole_group(mill: Mill, of_task: bool) -> None:
    mill.handler("t", "trap '' TERM; sleep 1000 & echo $! >>$J; echo $$ >>$J; wait; wait",
                 MaxAttempts="1", **({} if of_task else {"Timeout": "300ms"}))
    mill.start()
    id = mill.submit("t", **({"timeout": "300 ms"} if of_task else {}))
    assert mill.ended(id, "FAILED")["error"] == "timed out after 0.3 s"
    assert len(mill.runs()) == 2 and not any(alive(pid) for pid in mill.runs())


@pytest.mark.parametrize("leave", [
    "nohup sleep 1000 >/dev/null 2>&1 & echo $! >>$J",
    "(setsid sh -c 'echo $$ >>'$J'; exec sleep 1000' >/dev/null 2>&1 &); until [ -s $J ]; do sleep 0.01; done",
], ids=["nohup", "double fork"])
def test_what_a_handler_leaves_behind_is_ended_and_named(held: Mill, leave: str) -> None:
    held.handler("t", f"{leave}; until grep -q sleep /proc/$(cat $J)/comm; do sleep 0.01; done; echo done")
    held.handler("killed", "sleep 1000 & kill -9 $$")
    worker = held.start()
    id = held.submit("t")
    assert held.ended(id)["result"] == "done"
    assert not alive(held.runs()[0])
    worker.wait_log(f"left processes behind, which are killed: sleep ({held.runs()[0]})")
    held.until(held.submit("killed"), "RETRYABLE")
    assert worker.log.count("left processes behind") == 1  # whoever kills it expects that


def test_one_bad_handler_file_does_not_hide_the_others(mill: Mill) -> None:
    mill.handler("good", "echo 1").write_text(f"[Task]\nExec={mill.folder}/good\nColour=red\n[Other]\nx=y\n")
    mill.conf("relative", Exec="bin/true")
    mill.conf("mode", Exec="/bin/true", Mode="hover")
    mill.conf("none")
    (mill.tasks / "garbage.conf").write_text("what is this\n")
    (mill.tasks / "bad name.conf").write_text("[Task]\nExec=/bin/true\n")
    (mill.tasks / "binary.conf").write_bytes(b"[Task]\nExec=/bin/\0true\n")
    (mill.tasks / "dangling.conf").symlink_to("nowhere")
    (mill.tasks / "masked.conf").symlink_to("/dev/null")
    mill.conf("two", Mode="hover", Timeout="soon")
    worker = mill.start()
    for line in ("good.conf:3: there is no Colour=", "relative.conf:2: Exec=bin/true: must be",
                 "mode.conf:3: Mode=hover: must be", "none.conf: has no Exec=", "garbage.conf:1: neither",
                 "bad name.conf: the file is not named", "binary.conf:2: neither", "dangling.conf: it is a link",
                 "two.conf:2: Mode=hover", "two.conf:3: Timeout=soon", "1 handler"):
        assert line in worker.log, worker.log
    assert "masked" not in worker.log
    mill.ended(mill.submit("good"))


def test_files_and_drop_ins_of_the_first_folder_count(mill: Mill) -> None:
    vendor = mill.folder / "vendor"
    for folder in (vendor, vendor / "t.conf.d", mill.tasks / "t.conf.d", vendor / "off.conf.d"):
        folder.mkdir()
    (vendor / "t.conf").write_text("[Task]\nExec=/bin/false\n")
    (vendor / "t.conf.d" / "20.conf").write_text("[Task]\nExec=/bin/echo vendor\n")
    (vendor / "t.conf.d" / "10.conf").write_text("[Task]\nExec=\n")
    (mill.tasks / "t.conf.d" / "10.conf").write_text("[Task]\nMaxAttempts=7\n")
    (mill.tasks / "t.conf.d" / "15.conf").write_text("[Task]\nMaxAttempts=\nExec=/bin/echo own\n")
    mill.conf("t", Exec="/bin/false", MaxAttempts="9")
    (vendor / "off.conf").write_text("[Task]\nExec=/bin/true\n")
    (mill.tasks / "off.conf").symlink_to("/dev/null")
    worker = mill.start("w", "--tasks", f"{mill.tasks}:{vendor}")
    task = mill.ended(mill.submit("t"))
    assert (task["result"], task["max_attempts"]) == ("vendor", 3)
    worker.wait_log("1 handler")


def test_a_drop_in_overrides_and_a_reload_reads_it(mill: Mill) -> None:
    mill.handler("t", 'echo "$1"')
    worker = mill.start()
    assert mill.ended(mill.submit("t"))["result"] is None
    (mill.tasks / "t.conf.d").mkdir()
    (mill.tasks / "t.conf.d" / "more.conf").write_text(f'[Task]\nExec={mill.folder}/t "two words"\n')
    mill.handler("new", "echo new")
    worker.signal(signal.SIGHUP)
    worker.wait_log("Read 2 handlers")
    worker.wait_message("RELOADING=1")
    assert mill.ended(mill.submit("t"))["result"] == "two words"
    assert mill.ended(mill.submit("new"))["result"] == "new"


@pytest.mark.parametrize("number", ["1e131071", "1e131072", "1e-16383", "1e-16384", "1e-99999", "-0", "0e99999999999"])
def test_the_database_is_the_judge_of_numbers(mill: Mill, number: str) -> None:
    try:
        (kept,) = mill.db.execute("SELECT %s::jsonb::text", [number]).fetchone()
    except psycopg.Error:
        kept = None
    mill.handler("t", f"echo {number}", MaxAttempts="1")
    mill.handler("fine", "echo 1")
    ids = [mill.submit(name) for name in ("t", "fine")]
    mill.start()
    mill.ended(ids[1])
    query = "SELECT status, result::text, error FROM pgmill.task WHERE id = %s AND finished_at IS NOT NULL"
    status, result, error = eventually(lambda: mill.db.execute(query, [ids[0]]).fetchone())
    if kept is None:
        assert (status, result, error) == ("COMPLETED", json.dumps(number), None)
    else:
        assert (status, result) == ("COMPLETED", kept)


def test_a_result_that_only_the_database_refuses(mill: Mill) -> None:
    mill.db.execute("ALTER TABLE pgmill.tasks ADD CHECK (result <> '\"bad\"')")
    mill.handler("t", "cat")
    mill.handler("bad", "echo begun >>$J; echo bad; echo said >&2")
    ids = [mill.submit("bad" if i == 7 else "t", str(i)) for i in range(20)]
    mill.start("w", "--concurrency", "20")
    for i, id in enumerate(ids):
        task = mill.ended(id)
        assert (task["result"], task["result_note"]) == ((None, "refused by the database") if i == 7 else (i, None))
    assert mill.runs() == ["begun"]
    assert mill.db.execute("SELECT text FROM pgmill.log(%s)", [ids[7]]).fetchone() == ("said\n",)


def test_floods_do_not_keep_the_worker_from_its_other_tasks(mill: Mill) -> None:
    mill.handler("flood", "exec yes text 1>&2", Timeout="20s")
    mill.handler("t", "true")
    mill.start("w", "--grace", "3s")
    floods = [mill.submit("flood") for _ in range(3)]
    for id in floods:
        mill.until(id, "RUNNING")
    for _ in range(5):
        mill.ended(mill.submit("t"), within=10)
    assert all(mill.show(id)["attempt"] == 1 for id in floods)


@pytest.mark.long
def test_many_tasks_at_once_are_not_failed_for_want_of_descriptors(mill: Mill) -> None:
    mill.handler("t", "sleep 1; ulimit -Sn", MaxAttempts="1")
    ids = [mill.submit("t") for _ in range(150)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        mill.start("w", "--concurrency", "150")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert {mill.ended(id)["result"] for id in ids} == {256}


def test_attempts_put_off_do_not_grow_the_task(mill: Mill) -> None:
    mill.handler("t", 'echo x >>$J; echo why >&2; [ $(wc -l <$J) -ge 4 ] || exit 75')
    mill.start()
    assert mill.ended(mill.submit("t"))["errors"] == []


# ---- cancel ----


def cancel(mill: Mill, id: object) -> str:
    return mill.db.execute("SELECT pgmill.cancel(%s)", [id]).fetchone()[0]


def test_a_running_task_is_ended_when_somebody_cancels_it(mill: Mill) -> None:
    mill.handler("t", "echo begun >>$J; echo said >&2; exec sleep 60", MaxAttempts="5")
    mill.start()
    id = mill.submit("t")
    eventually(mill.runs)
    assert cancel(mill, id) == "asked"
    task = mill.ended(id, "CANCELLED", within=4)  # SIGTERM was enough
    assert (task["attempt"], task["error"]) == (1, "cancelled") and task["errors"][0]["stderr"] == "said\n"
    assert mill.runs() == ["begun"]
    assert cancel(mill, id) == "done"


def test_who_does_not_listen_is_killed(mill: Mill) -> None:
    mill.handler("t", "trap '' TERM; echo begun >>$J; while :; do sleep 1; done")
    mill.start()
    id = mill.submit("t")
    eventually(mill.runs)
    cancel(mill, id)
    mill.ended(id, "CANCELLED")


def test_a_task_cancelled_while_its_worker_dies_never_runs_again(mill: Mill) -> None:
    mill.handler("t", "trap '' TERM; echo begun >>$J; exec sleep 60")
    worker = mill.start("one", "--grace", "3s")
    id = mill.submit("t")
    eventually(mill.runs)
    cancel(mill, id)
    worker.kill()
    mill.start("two", "--grace", "3s")
    mill.ended(id, "CANCELLED")
    assert mill.runs() == ["begun"]
