# SPDX-License-Identifier: MIT
"""The services as systemctl and journalctl see them, on a booted Debian with the package installed."""

import json
import re
import time

import pytest

from system.machine import Machine, eventually

WORKERS = ("pgmill-worker@1.service", "pgmill-worker@2.service")


def test_boots_and_is_set_up(mill: Machine) -> None:
    print(f"{mill.out('systemctl --version | head -n 1')}: booted in {mill.boot_seconds:.1f} s")
    assert mill.out("systemctl --failed --no-legend") == ""
    for unit in (*WORKERS, "pgmill-worker@1.socket", "pgmill-api.service", "pgmill-api.socket", "pgmill.target", "pgmill-prune.timer"):
        assert mill.show(unit, "ActiveState") == "active", unit
    assert mill.out("systemctl is-enabled pgmill.target pgmill-worker@1.service").split() == ["enabled"] * 2
    assert not [line for line in mill.out("pgmill doctor").splitlines() if not line.startswith(("ok ", "warning  control groups"))]
    assert re.search(r"schema \d+ was ready already", mill.journal("-u pgmill-migrate.service"))


def drop_in(mill: Machine, unit: str, *lines: str) -> None:
    mill.write(f"/etc/systemd/system/{unit}.d/test.conf", "\n".join(lines) + "\n")
    mill.run("systemctl daemon-reload")


def test_units_verify_without_a_word(mill: Machine) -> None:
    drop_in(mill, "pgmill-schedule@x.timer", "[Timer]", "OnCalendar=*-*-* 02:30 Europe/Berlin")
    done = mill.run("systemd-analyze verify --man=no " + " ".join(
        ("pgmill-api.service", "pgmill-api@1.service", "pgmill-schedule@x.timer", "pgmill-prune.timer", WORKERS[0])))
    assert [line for line in (done.stdout + done.stderr).splitlines() if "pgmill" in line] == []


@pytest.mark.parametrize("unit, most", [("pgmill-api.service", 1.2), ("pgmill-worker@1.service", 1.8),
                                        ("pgmill-migrate.service", 1.2), ("pgmill-prune.service", 1.2)])
def test_exposure(mill: Machine, unit: str, most: float) -> None:
    line = mill.out(f"systemd-analyze security {unit} --no-pager | tail -n 1")
    print(line)
    assert float(line.split(": ")[1].split()[0]) <= most


def submit(mill: Machine, name: str, *options: str) -> str:
    return mill.out(f"pgmill submit {name} {' '.join(options)}", user="pgmill")


def task(mill: Machine, id: str) -> dict:
    return json.loads(mill.out(f"curl -sS http://localhost:8000/api/tasks/{id}"))


def wait(mill: Machine, id: str, *statuses: str) -> dict:
    return eventually(lambda: (t := task(mill, id)) and t["status"] in statuses and t)


def test_first_task_of_the_readme(mill: Machine) -> None:
    sent = mill.out("""curl -sS -X POST "http://localhost:8000/api/tasks/" -H "Content-Type: application/json" """
                    """-d '{"name": "example_task", "payload": {"key": "value"}, "priority": "MEDIUM", """
                    """"scheduled_at": "2023-10-01T10:00:00"}'""")
    done = wait(mill, json.loads(sent)["id"], "COMPLETED", "FAILED")
    assert done["result"]["echo"] == {"key": "value"}, done
    later = json.loads(mill.out("curl -sS localhost:8000/api/tasks/ -H 'Content-Type: application/json' "
                                """-d '{"name": "example_task", "scheduled_at": "2099-01-01T00:00:00"}'"""))["id"]
    url = f"http://localhost:8000/api/tasks/{later}"
    assert json.loads(mill.out(f"curl -sS -X PATCH {url}/pause"))["status"] == "PAUSED"
    assert json.loads(mill.out(f"curl -sS -X PATCH {url}/resume"))["status"] == "SCHEDULED"
    assert mill.out(f"curl -sS -g 'http://[::1]:8000/api/tasks/{later}'")


def test_root_who_set_it_up_speaks_to_the_queue(mill: Machine) -> None:
    """By the verbs of the manual, although PostgreSQL has no role for root."""
    id = mill.out("HOME=/root pgmill submit example_task")
    eventually(lambda: json.loads(mill.out(f"HOME=/root pgmill show {id}"))["status"] == "COMPLETED")


def test_unix_socket_is_for_its_group(mill: Machine) -> None:
    assert mill.out("stat -c '%U:%G %a' /run/pgmill/api.sock") == "root:pgmill 660"
    ask = "curl -sS -o /dev/null -w '%{http_code}' --unix-socket /run/pgmill/api.sock http://localhost/healthz"
    assert mill.out(ask, user="pgmill") == "200"
    assert mill.run(ask, user="daemon", check=False).returncode != 0


def test_a_connection_starts_the_api(mill: Machine) -> None:
    mill.run("systemctl stop pgmill-api.service")
    assert mill.show("pgmill-api.service", "ActiveState") == "inactive"
    assert mill.out("curl -sS -o /dev/null -w '%{http_code}' localhost:8000/healthz") == "200"
    assert mill.show("pgmill-api.service", "ActiveState") == "active"


def test_status_tells_what_runs(mill: Machine) -> None:
    id = submit(mill, "hold")
    wait(mill, id, "RUNNING")
    eventually(lambda: any("1 of " in mill.show(unit, "StatusText") for unit in WORKERS))
    assert f"{id[-12:]}" in mill.out("systemd-cgls --no-pager --unit pgmill-worker@1.service pgmill-worker@2.service") \
        or "sleep 600" in mill.out("systemd-cgls --no-pager -u pgmill-worker@1.service -u pgmill-worker@2.service")
    mill.run(f"curl -sS -X PATCH localhost:8000/api/tasks/{id}/cancel")
    assert wait(mill, id, "CANCELLED")
    eventually(lambda: all("0 of " in mill.show(unit, "StatusText") for unit in WORKERS))


def test_the_journal_knows_a_task(mill: Machine) -> None:
    for name, status, said in (("say", "COMPLETED", "working"), ("fail", "FAILED", "broken")):
        id = submit(mill, name)
        wait(mill, id, status)
        end = "Completed after" if status == "COMPLETED" else "Failed for good in"
        story = eventually(lambda: (lines := mill.journal(f"PGMILL_TASK={id}").splitlines()) and len(lines) == 3 and lines)
        assert story[0].startswith("Attempt 1 of ") and story[1] == said and story[2].startswith(end)
        assert mill.out(f"journalctl -q -o json --output-fields=PGMILL_NAME PGMILL_TASK={id} | head -n 1 "
                        "| jq -r .PGMILL_NAME") == name


def test_reload_reads_handlers_and_keeps_the_process(mill: Machine) -> None:
    pid = mill.show(WORKERS[0], "MainPID")
    mill.write("/etc/pgmill/tasks.d/fresh.conf", "[Task]\nExec=/bin/echo fresh\n")
    mill.run("systemctl reload 'pgmill-worker@*.service'")
    assert wait(mill, submit(mill, "fresh"), "COMPLETED")["result"] == "fresh"
    assert mill.show(WORKERS[0], "MainPID") == pid
    pid = mill.show("pgmill-api.service", "MainPID")
    mill.run("systemctl reload pgmill-api.service")
    assert mill.show("pgmill-api.service", "MainPID") == pid


def test_workers_stop_and_start_under_load(mill: Machine) -> None:
    ids = mill.sql("SELECT pgmill.submit('brief') FROM generate_series(1, 200)").split()
    for action in ("restart", "stop", "start", "kill --signal=KILL --kill-whom=main", "restart"):
        mill.run(f"systemctl {action} pgmill-worker@1.service")
    statuses = "SELECT status, count(*) FROM pgmill.task WHERE name = 'brief' GROUP BY 1"
    eventually(lambda: mill.sql(statuses) == f"COMPLETED|{len(ids)}", within=90)


def test_a_killed_worker_comes_back(mill: Machine) -> None:
    for _ in range(6):  # more than the usual limit of starts
        pid = mill.show(WORKERS[1], "MainPID")
        mill.run(f"kill -KILL {pid}")
        eventually(lambda: mill.show(WORKERS[1], "MainPID") not in ("0", pid))
        eventually(lambda: mill.show(WORKERS[1], "ActiveState") == "active")
    assert mill.out("systemctl --failed --no-legend") == ""


def test_restarting_the_api_refuses_nobody(mill: Machine) -> None:
    client = mill.start("/bin/sh", "-c", "while ! test -e /run/enough; do curl -sS -o /dev/null -w '%{http_code}\\n' -m 30 "
                        "localhost:8000/api/tasks/ -H 'Content-Type: application/json' -d '{\"name\": \"say\"}'; done")
    for _ in range(10):
        mill.run("systemctl restart pgmill-api.service")
    mill.run("touch /run/enough")
    assert client.wait(60) == 0 and client.stdout
    answers = client.stdout.read().split()
    assert set(answers) == {"201"} and len(answers) >= 10


def test_restarting_everything_waits_for_no_worker(mill: Machine) -> None:
    id = submit(mill, "hold")
    eventually(lambda: task(mill, id)["status"] == "RUNNING")
    before = mill.show("pgmill-api.service", "MainPID")
    mill.run("systemctl --no-block restart pgmill.target")
    eventually(lambda: mill.show("pgmill-api.service", "MainPID") not in (before, "0"), within=50)  # less than DrainSec=
    assert mill.out("curl -sS -m 20 -o /dev/null -w '%{http_code}' localhost:8000/healthz") == "200"
    assert any(mill.show(unit, "ActiveState") == "deactivating" for unit in WORKERS)
    mill.run(f"pgmill cancel {id}", user="pgmill")
    eventually(lambda: all(mill.show(unit, "ActiveState") == "active" for unit in WORKERS))


def test_one_api_takes_the_place_of_several(mill: Machine) -> None:
    for sockets in ["pgmill-api@1.socket pgmill-api@2.socket", "pgmill-api.socket"] * 3:
        mill.run(f"systemctl start {sockets}")
        if "@" in sockets:
            assert "pgmill-api.socket: left alone" in mill.out("pgmill setup")
        assert mill.out("curl -sS -o /dev/null -w '%{http_code}' localhost:8000/healthz") == "200"


def test_doctor_sees_a_password_that_everybody_reads(mill: Machine) -> None:
    mill.write("/etc/pgmill/worker@open.conf", "PGMILL_DATABASE=postgres://pgmill:secret@localhost/pgmill\n")
    try:
        said = mill.run("pgmill doctor", check=False).stdout
        assert "problem  password: /etc/pgmill/worker@open.conf can be read by anybody, and holds one" in said
    finally:
        mill.run("rm /etc/pgmill/worker@open.conf")


def test_credentials_of_the_store_reach_the_services(mill: Machine) -> None:
    drop_in(mill, "pgmill-.service", "[Service]", *(f"LoadCredential={name}:/etc/credstore/{name}"
                                                    for name in ("pgmill.database", "pgmill.tokens")))
    mill.run("install -d -m 700 /etc/credstore; echo 'dbname=elsewhere user=pgmill' >/etc/credstore/pgmill.database")
    ask = "curl -sS -o /dev/null -w '%{http_code}' localhost:8000/api/workers/"
    try:
        token = mill.out("pgmill token new --scope read --file /etc/credstore/pgmill.tokens somebody")
        mill.run("systemctl restart --no-block pgmill-worker@1.service")
        eventually(lambda: "waiting for the database" in mill.show(WORKERS[0], "StatusText"))
        assert 'database "elsewhere" does not exist' in mill.journal(f"-u {WORKERS[0]}")
        assert '"elsewhere" does not exist' in mill.run("pgmill migrate", check=False).stderr
        mill.run("echo dbname=pgmill >/etc/credstore/pgmill.database; "
                 "systemctl restart pgmill-worker@1.service pgmill-api.service")
        assert (mill.out(ask), mill.out(f"{ask} -H 'Authorization: Bearer {token}'")) == ("401", "200")
    finally:
        mill.run("rm -f /etc/credstore/pgmill.*; rm -r /etc/systemd/system/pgmill-.service.d; systemctl daemon-reload; "
                 "systemctl restart pgmill-worker@1.service pgmill-api.service")
    assert mill.out(ask) == "200"


def test_a_broken_setting_is_said_and_not_retried(mill: Machine) -> None:
    mill.write("/etc/pgmill/worker@odd.conf", "PGMILL_CONCURRENCY=many\n")
    mill.run("systemctl start pgmill-worker@odd.service", check=False)
    assert mill.show("pgmill-worker@odd.service", "ExecMainStatus") == "78"
    assert mill.show("pgmill-worker@odd.service", "NRestarts") == "0"
    assert 'PGMILL_CONCURRENCY: "many" must be a number from 1 to 1000' in mill.journal("-u pgmill-worker@odd.service")
    assert "problem  units: pgmill-worker@odd.service failed" in mill.run("pgmill doctor", check=False).stdout
    mill.run("systemctl reset-failed pgmill-worker@odd.service")
    mill.write("/etc/pgmill/worker@odd.conf", "PGMILL_QUEUES=odd\nPGMILL_GRACE=15s\n")
    mill.run("systemctl start pgmill-worker@odd.service")
    assert "Grace= is too short beside WatchdogSec=10s" in mill.journal("-u pgmill-worker@odd.service")
    assert wait(mill, submit(mill, "say", "--queue", "odd"), "COMPLETED")
    mill.run("systemctl stop pgmill-worker@odd.service; rm /etc/pgmill/worker@odd.conf")


@pytest.mark.parametrize("from_then, expression, expected", [
    # That night 02:30 does not exist: no tick.
    ("2027-03-27 12:00", "*-*-* 02:30", ["2027-03-29 00:30:00", "2027-03-30 00:30:00"]),
    # The hour that is left out has no tick, and the next one is where it was.
    ("2027-03-28 00:30", "*-*-* *:00", ["2027-03-28 01:00:00", "2027-03-28 02:00:00"]),
    # That night it is 02:30 twice: one tick.
    ("2027-10-30 12:00", "*-*-* 02:30", ["2027-10-31 00:30:00", "2027-11-01 01:30:00"]),
    # The hour that is repeated has one tick.
    ("2027-10-30 23:30", "*-*-* *:00", ["2027-10-31 00:00:00", "2027-10-31 02:00:00"]),
])
def test_ticks_at_daylight_saving_changes(mill: Machine, from_then: str, expression: str, expected: list[str]) -> None:
    said = mill.out(f"TZ=UTC systemd-analyze calendar --iterations=2 --base-time='{from_then} UTC' "
                    f"'{expression}:00 Europe/Berlin'")
    ticks = [line.split(maxsplit=3)[3] for line in said.splitlines() if "elapse" in line or "Iter" in line]
    assert [" ".join(tick.split()[-3:-1]) for tick in ticks] == expected


def test_a_tick_counts_once_on_all_hosts(mill: Machine) -> None:
    for host in ("one", "two"):
        drop_in(mill, f"pgmill-schedule@{host}.timer", "[Timer]", "OnCalendar=*:*:0/2 Europe/Berlin")
        drop_in(mill, f"pgmill-schedule@{host}.service", "[Service]", "ExecStart=",
                "ExecStart=/usr/bin/pgmill submit --schedule=both --tags=tick say")
    timers = "pgmill-schedule@one.timer pgmill-schedule@two.timer"
    mill.run(f"systemctl start {timers}")
    count = "SELECT count(*) FROM pgmill.task WHERE tags = '{tick}'"
    eventually(lambda: int(mill.sql(count)) >= 3)
    mill.run(f"systemctl stop {timers}")
    eventually(lambda: all(mill.show(unit.replace(".timer", ".service"), "ActiveState") == "inactive" for unit in timers.split()))
    ids = [line for line in mill.journal("-u 'pgmill-schedule@*.service' -t pgmill").splitlines() if len(line) == 36]
    passed = mill.journal("-u 'pgmill-schedule@*.service' -t pgmill").count("was submitted before, or has passed")
    assert len(ids) == len(set(ids)) == int(mill.sql(count)) and passed > 0
    # The time that the timer was to elapse at, and not the time that it did.
    assert float(mill.sql("SELECT extract(epoch FROM last_tick) FROM pgmill.schedules")) % 2 == 0


@pytest.mark.parametrize("last, submitted", [("date_trunc('hour', now()) + interval '1 hour'", 0), ("now() - interval '3 hours'", 1)])
def test_a_host_that_was_off_makes_up_for_what_no_other_has_submitted(mill: Machine, last: str, submitted: int) -> None:
    drop_in(mill, "pgmill-schedule@late.timer", "[Timer]", "OnCalendar=hourly")
    drop_in(mill, "pgmill-schedule@late.service", "[Service]", "ExecStart=",
            f"ExecStart=/usr/bin/pgmill submit --schedule=late --tags=late{submitted} say")
    mill.sql(f"INSERT INTO pgmill.schedules VALUES ('late', {last}) ON CONFLICT (name) DO UPDATE SET last_tick = {last}")
    mill.run("touch -d '2 hours ago' /var/lib/systemd/timers/stamp-pgmill-schedule@late.timer; "
             "systemctl start pgmill-schedule@late.timer")
    ended = "-p SubState,Result,ExecMainExitTimestampMonotonic pgmill-schedule@late.service"
    eventually(lambda: (shown := mill.out(f"systemctl show {ended}").splitlines())
               and "SubState=dead" in shown and "ExecMainExitTimestampMonotonic=0" not in shown)
    assert mill.show("pgmill-schedule@late.service", "Result") == "success"
    mill.run("systemctl stop pgmill-schedule@late.timer")
    assert int(mill.sql(f"SELECT count(*) FROM pgmill.task WHERE tags = '{{late{submitted}}}'")) == submitted


@pytest.mark.parametrize("path, lines, check", [
    ("/etc/pgmill/pgmill.conf", "", "configuration"),
    ("/etc/pgmill/tasks.d/closed.conf", "[Task]\nExec=/bin/true\n", "handlers"),
    ("/usr/local/bin/closed", "#!/bin/sh\n", "handlers"),
])
def test_doctor_sees_what_the_services_may_not_read(mill: Machine, path: str, lines: str, check: str) -> None:
    """Root may: so it looks with their rights."""
    if lines:
        mill.write(path, lines, 0o700)
        mill.write("/etc/pgmill/tasks.d/closes.conf", f"[Task]\nExec={path if 'bin' in path else '/bin/true'}\n")
    try:
        mill.run(f"chmod 0700 {path}")
        done = mill.run("pgmill doctor", check=False)
        assert done.returncode == 1 and f"problem  {check}: " in done.stdout and path in done.stdout + done.stderr
    finally:
        mill.run(f"chmod 0640 {path}" if not lines else f"rm {path} /etc/pgmill/tasks.d/closes.conf")


def test_a_schedule_may_be_started_by_hand(mill: Machine) -> None:
    """Although its timer has started it before, and systemd still says so."""
    drop_in(mill, "pgmill-schedule@say.timer", "[Timer]", "OnCalendar=hourly")
    drop_in(mill, "pgmill-schedule@say.service", "[Service]", "ExecStart=",
            "ExecStart=/usr/bin/pgmill submit --schedule=say --tags=hand say")
    mill.run("touch -d '2 days ago' /var/lib/systemd/timers/stamp-pgmill-schedule@say.timer; systemctl start pgmill-schedule@say.timer")
    count = "SELECT count(*) FROM pgmill.task WHERE tags = '{hand}'"
    eventually(lambda: int(mill.sql(count)) == 1)
    eventually(lambda: mill.show("pgmill-schedule@say.service", "ActiveState") == "inactive")
    mill.run("systemctl start pgmill-schedule@say.service; systemctl stop pgmill-schedule@say.timer")
    assert int(mill.sql(count)) == 2


def test_the_database_may_go_and_come(mill: Machine) -> None:
    pids = [mill.show(unit, "MainPID") for unit in ("pgmill-api.service", *WORKERS)]
    mill.run("systemctl stop postgresql.service 'postgresql@*.service'")
    eventually(lambda: all("waiting for the database" in mill.show(unit, "StatusText") for unit in WORKERS))
    assert mill.out("curl -sS -o /dev/null -w '%{http_code}' localhost:8000/readyz") == "503"
    mill.run("systemctl start --no-block pgmill-prune.service")
    eventually(lambda: mill.show("pgmill-prune.service", "SubState") == "auto-restart")
    mill.run("systemctl start postgresql.service")
    eventually(lambda: [mill.show("pgmill-prune.service", what) for what in ("ActiveState", "Result")] == ["inactive", "success"])
    assert wait(mill, submit(mill, "say"), "COMPLETED")
    assert [mill.show(unit, "MainPID") for unit in ("pgmill-api.service", *WORKERS)] == pids


def test_prune_runs_from_its_timer(mill: Machine) -> None:
    assert mill.out("systemctl list-timers --no-legend pgmill-prune.timer")
    def runs() -> int:
        return mill.journal("-u pgmill-prune.service").count("forgot 0 tasks")

    before = runs()
    drop_in(mill, "pgmill-prune.timer", "[Timer]", "OnActiveSec=1", "AccuracySec=1ms", "RandomizedDelaySec=0")
    mill.run("systemctl restart pgmill-prune.timer")
    eventually(lambda: runs() > before)
    mill.run("systemctl revert pgmill-prune.timer; systemctl restart pgmill-prune.timer")
