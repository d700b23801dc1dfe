# SPDX-License-Identifier: MIT
"""What systemctl does to workers, and what is said of settings that systemd or pgmill cannot use."""

import json
from collections.abc import Iterator

import pytest

from system.machine import Machine, eventually
from system.test_services import drop_in, submit, task, wait

MANY = [f"pgmill-worker@{number}.service" for number in range(1, 9)]


@pytest.fixture
def mail(mill: Machine) -> Iterator[str]:
    """A worker with a queue of its own."""
    mill.write("/etc/pgmill/worker@mail.conf", "PGMILL_QUEUES=mail\nPGMILL_CONCURRENCY=8\n")
    mill.write("/etc/pgmill/tasks.d/nap.conf", "[Task]\nExec=/bin/sleep 2\n")
    mill.write("/etc/pgmill/tasks.d/doze.conf", "[Task]\nExec=/bin/sleep 10\n")
    mill.run("systemctl restart pgmill-worker@mail.service")
    yield "pgmill-worker@mail.service"
    mill.run("systemctl stop pgmill-worker@mail.service pgmill-worker@mail.socket")


def begun(mill: Machine, id: str) -> None:
    """A worker may hold a task that is RUNNING, and not yet have started its program."""
    eventually(lambda: "Attempt 1" in mill.journal(f"PGMILL_TASK={id}"))


def test_eight_workers_start_at_once(mill: Machine) -> None:
    mill.run(f"systemctl start {' '.join(MANY)}")
    assert [mill.show(unit, "ActiveState") for unit in MANY] == ["active"] * 8
    listed = [json.loads(line) for line in mill.out("pgmill workers --json", user="pgmill").splitlines()]
    assert {worker["instance"] for worker in listed if worker["status"] == "ACTIVE"} >= set("12345678")
    mill.run(f"systemctl stop {' '.join(MANY[2:])}")
    assert [mill.show(unit, "ActiveState") for unit in MANY[2:]] == ["inactive"] * 6


def test_reload_of_all_takes_their_sockets_along(mill: Machine) -> None:
    units = ("pgmill-worker@1.service", "pgmill-worker@2.service")
    before = [mill.journal(f"-u {unit}").count("handlers") for unit in units]
    mill.run("systemctl reload 'pgmill-worker@*' 'pgmill-api*'")
    eventually(lambda: all(mill.journal(f"-u {unit}").count("handlers") > n for unit, n in zip(units, before)))
    assert mill.run("systemctl start pgmill-worker@idle.socket; systemctl reload pgmill-worker@idle.socket; "
                    "systemctl is-active pgmill-worker@idle.service", check=False).stdout.strip() == "inactive"
    mill.run("systemctl stop pgmill-worker@idle.socket")


def test_a_variable_that_does_nothing_is_named(mill: Machine, mail: str) -> None:
    mill.write("/etc/pgmill/worker@mail.conf", "PGMILL_QUEUES=mail\nPGMILL_QUEUE=fax\n")
    mill.run(f"systemctl restart {mail}")
    said = "/etc/pgmill/worker@mail.conf:2: PGMILL_QUEUE= is no variable of pgmill"
    assert said in mill.journal(f"-u {mail}")
    assert said in mill.run("pgmill doctor", check=False).stdout


def test_a_tick_that_a_night_does_not_have_is_told_beforehand(mill: Machine) -> None:
    unit = "pgmill-schedule@night.timer"
    drop_in(mill, unit, "[Timer]", "OnCalendar=Mon..Sat 02:30 Europe/Berlin\nOnCalendar=02:30 Europe/Berlin")
    mill.run(f"systemctl start {unit}")
    line = next(line for line in mill.run("pgmill doctor", check=False).stdout.splitlines() if " schedules: " in line)
    assert line.startswith("warning") and line.count("OnCalendar=") == 1
    assert f"{unit}: OnCalendar=*-*-* 02:30:00 Europe/Berlin has no tick" in line
    mill.run(f"systemctl stop {unit}; rm -r /etc/systemd/system/{unit}.d; systemctl daemon-reload")


def test_stop_drains_and_loses_nothing(mill: Machine, mail: str) -> None:
    mill.sql("SELECT count(pgmill.submit('nap', queue => 'mail', tags => '{drain}')) FROM generate_series(1, 20)")
    count = "SELECT count(*) FROM pgmill.task WHERE tags = '{drain}' AND "
    eventually(lambda: mill.out("pgrep -c -x -u pgmill sleep || true") != "0")
    mill.run(f"systemctl stop {mail}")
    # What ran has ended well; what did not run waits, and was not tried.
    assert mill.sql(count + "status = 'RUNNING'") == "0" and int(mill.sql(count + "status = 'COMPLETED'")) > 0
    assert mill.sql(count + "attempt > 1") == "0"
    mill.run(f"systemctl start {mail}")
    eventually(lambda: mill.sql(count + "status = 'COMPLETED' AND attempt = 1") == "20")


def test_a_drain_may_take_longer_than_the_units_time_to_stop(mill: Machine) -> None:
    """The worker asks for more, and systemd grants it."""
    mill.write("/etc/pgmill/tasks.d/long.conf", "[Task]\nExec=/bin/sleep 6\n")
    mill.write("/etc/pgmill/worker@slow.conf", "PGMILL_QUEUES=slow\nPGMILL_DRAIN=60s\n")
    mill.write("/etc/systemd/system/pgmill-worker@slow.service.d/test.conf", "[Service]\nTimeoutStopSec=3\n")
    mill.run("systemctl daemon-reload; systemctl start pgmill-worker@slow.service")
    id = mill.out("pgmill submit --queue=slow long", user="pgmill")
    begun(mill, id)
    mill.run("systemctl stop pgmill-worker@slow.service")
    assert mill.show("pgmill-worker@slow.service", "Result") == "success"
    done = task(mill, id)
    assert (done["status"], done["attempt"]) == ("COMPLETED", 1)


def test_a_frozen_worker_goes_on_when_thawed(mill: Machine, mail: str) -> None:
    drop_in(mill, mail, "[Service]", "WatchdogSec=0")  # systemd 252 counts on while it stands still
    mill.run(f"systemctl restart {mail}")
    id = submit(mill, "hold", "--queue=mail")
    begun(mill, id)
    mill.run(f"systemctl freeze {mail}")
    try:
        assert mill.show(mail, "FreezerState") == "frozen"
        assert wait(mill, submit(mill, "say"), "COMPLETED")
        assert task(mill, id)["status"] == "RUNNING"
    finally:
        mill.run(f"systemctl thaw {mail}; rm -r /etc/systemd/system/{mail}.d; systemctl daemon-reload")
    assert mill.show(mail, "FreezerState") == "running"
    assert wait(mill, submit(mill, "say", "--queue=mail"), "COMPLETED")
    still = task(mill, id)
    assert (still["status"], still["attempt"]) == ("RUNNING", 1)
    mill.run(f"pgmill cancel {id}", user="pgmill")
    assert wait(mill, id, "CANCELLED")


def test_kill_of_all_ends_programs_and_their_tasks_run_again(mill: Machine, mail: str) -> None:
    id = submit(mill, "doze", "--queue=mail")
    begun(mill, id)
    mill.run(f"systemctl kill --signal=KILL {mail}")
    done = wait(mill, id, "COMPLETED")
    assert done["attempt"] == 2 and mill.show(mail, "ActiveState") == "active"
    # SIGTERM: it drains and, since somebody wanted it to end, stays away.
    mill.run(f"systemctl kill --kill-whom=main {mail}")
    eventually(lambda: mill.show(mail, "ActiveState") == "inactive")


def failed_for_good(mill: Machine, unit: str, status: int) -> bool:
    """One that is to be started again is "activating"."""
    shown = [mill.show(f"-- {unit}", what) for what in ("ActiveState", "ExecMainStatus", "NRestarts")]
    return shown == ["failed", str(status), "0"]


@pytest.mark.parametrize("lines, status, said", [
    ("LoadCredential=tokens:/etc/pgmill/none", 243, "Failed to set up credentials"),
    ("User=nosuch", 217, "Failed to determine user credentials"),
    ("SupplementaryGroups=nosuch", 216, "Failed to determine supplementary groups"),
    ("WorkingDirectory=/nosuch", 200, "Changing to the requested working directory failed"),
    ("ReadWritePaths=/nosuch", 226, "/nosuch"),
    ("ExecStart=\nExecStart=/usr/bin/pgmill worker %i --nosuch", 64, "nosuch"),
    ("Environment=PGMILL_CONCURRENCY=many", 78, 'PGMILL_CONCURRENCY: "many" must be a number from 1 to 1000'),
])
def test_a_broken_override_is_said_and_not_tried_again(mill: Machine, lines: str, status: int, said: str) -> None:
    unit = "pgmill-worker@broken.service"
    drop_in(mill, unit, "[Service]", lines)
    assert mill.run(f"systemctl start {unit}", check=False).returncode == 1
    assert failed_for_good(mill, unit, status)
    # By its own word: systemd's process that said it has ended before the journal could ask whose it was.
    assert said in mill.journal(f"_SYSTEMD_UNIT={unit} + UNIT={unit}")
    mill.run(f"systemctl stop pgmill-worker@broken.socket; systemctl reset-failed {unit}; rm -r /etc/systemd/system/{unit}.d; "
             "systemctl daemon-reload")


def test_a_broken_worker_is_started_once_by_who_asks_it(mill: Machine) -> None:
    unit = "pgmill-worker@asked.service"
    mill.write("/etc/pgmill/worker@asked.conf", "PGMILL_CONCURRENCY=many\n")
    mill.run("systemctl start pgmill-worker@asked.socket")
    assert mill.run("pgmill local asked", check=False).returncode == 69
    eventually(lambda: mill.show(unit, "ActiveState") == "failed")
    mill.run("sleep 3")  # it would have been started twenty times
    assert mill.journal(f"UNIT={unit}").count("Failed with result") == 1
    assert mill.show("pgmill-worker@asked.socket", "ActiveState") == "active"
    mill.run(f"systemctl stop pgmill-worker@asked.socket; systemctl reset-failed {unit}; rm /etc/pgmill/worker@asked.conf")


def test_a_folder_in_run_that_is_read_only(mill: Machine) -> None:
    unit = "pgmill-worker@read-only.service"
    mill.run("mkdir -p /run/empty; mount --bind /run/empty /run/pgmill; mount -o remount,bind,ro /run/pgmill")
    try:
        assert mill.run(f"systemctl start {unit}", check=False).returncode == 1
        assert failed_for_good(mill, unit, 233)
        assert "special execution directory in /run: Read-only file system" in mill.journal(f"UNIT={unit}")
    finally:
        mill.run("umount /run/pgmill; systemctl stop pgmill-worker@read-only.socket; systemctl reset-failed")


@pytest.mark.parametrize("name, said", [("-x", "-x: no such option"), ("a:b", "name"), ("l" * 101, "name")])
def test_an_odd_instance_name_is_refused(mill: Machine, name: str, said: str) -> None:
    unit = f"pgmill-worker@{name}.service"
    assert mill.run(f"systemctl start -- {unit}", check=False).returncode == 1
    assert failed_for_good(mill, unit, 64)
    assert said in mill.journal(f"_SYSTEMD_UNIT={unit} + UNIT={unit}")
    mill.run(f"systemctl stop -- pgmill-worker@{name}.socket", check=False)
    mill.run("systemctl reset-failed")


def test_an_escaped_instance_name_is_refused(mill: Machine) -> None:
    for name in "-x", "two words", "$(id)", "ü;":
        unit = "'" + mill.out(f"systemd-escape --template=pgmill-worker@.service -- '{name}'") + "'"
        assert mill.run(f"systemctl start {unit}", check=False).returncode == 1
        assert failed_for_good(mill, unit, 64)
        assert "is no name of a worker: " in mill.journal(f"_SYSTEMD_UNIT={unit} + UNIT={unit}")
        mill.run(f"systemctl stop {unit.replace('.service', '.socket')}; systemctl reset-failed", check=False)


def test_no_database_is_said_and_waited_for(mill: Machine) -> None:
    mill.write("/etc/pgmill/worker@away.conf", "PGMILL_DATABASE=host=/nosuch dbname=x\n")
    mill.run("systemctl start --no-block pgmill-worker@away.service")
    unit = "pgmill-worker@away.service"
    eventually(lambda: "waiting for the database" in mill.show(unit, "StatusText"))
    assert "/nosuch/.s.PGSQL.5432" in mill.journal(f"-u {unit}")
    eventually(lambda: mill.show(unit, "ActiveState") == "active")  # as far as systemd is concerned
    assert "waiting for the database" in mill.show(unit, "StatusText")
    mill.run(f"systemctl stop {unit} pgmill-worker@away.socket; rm /etc/pgmill/worker@away.conf")
    done = mill.run("PGMILL_DATABASE='host=/nosuch dbname=x' pgmill list", check=False)
    assert done.returncode == 69 and "Cannot connect to the database" in done.stderr


def test_a_port_in_use_is_named(mill: Machine) -> None:
    mill.run("systemctl stop pgmill-api.service pgmill-api.socket")
    other = mill.start("systemd-socket-activate", "-l", "127.0.0.1:8000", "cat")
    try:
        eventually(lambda: mill.out("ss -Hltn 'sport = :8000'"))
        assert mill.run("systemctl start pgmill-api.socket", check=False).returncode == 1
        assert "127.0.0.1:8000" in mill.journal("-u pgmill-api.socket") and "in use" in mill.journal("-u pgmill-api.socket")
        done = mill.run("pgmill api", check=False, user="pgmill")
        assert done.returncode == 71 and "Cannot listen on 127.0.0.1:8000: Address already in use" in done.stderr
    finally:
        mill.run("pkill -x systemd-socket-")
        other.wait(30)
    mill.run("systemctl reset-failed; systemctl start pgmill-api.socket pgmill-api.service")
