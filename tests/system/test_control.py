# SPDX-License-Identifier: MIT
"""Control sockets, workers on demand and the journal's catalogue, under systemd."""

import json

from system.machine import Machine, eventually

from .test_services import submit, wait


def state(mill: Machine, unit: str) -> str:
    return mill.show(unit, "ActiveState")


def test_each_worker_has_a_control_socket(mill: Machine) -> None:
    assert mill.out("stat -c '%U:%G %a' /run/pgmill/worker/1.sock") == "root:pgmill 660"
    rows = [line.split() for line in mill.out("pgmill local", user="pgmill").splitlines()[1:]]
    assert [row[:2] for row in rows] == [["1", "serving"], ["2", "serving"]]
    refused = mill.run("pgmill local 1", user="daemon", check=False)
    assert refused.returncode == 77 and "members of the group pgmill" in refused.stderr
    id = submit(mill, "hold", "--queue=default")
    tasks = eventually(lambda: [t for line in mill.out("pgmill local --json", user="pgmill").splitlines()
                                for t in json.loads(line)["tasks"]])
    assert tasks[0]["id"] == id and tasks[0]["state"] == "running"
    mill.run(f"curl -sS -X PATCH localhost:8000/api/tasks/{id}/cancel")
    wait(mill, id, "CANCELLED")


def test_the_socket_goes_with_its_service(mill: Machine) -> None:
    service, socket = "pgmill-worker@1.service", "pgmill-worker@1.socket"
    assert state(mill, socket) == "active"
    mill.run(f"systemctl restart {service}")
    assert (state(mill, service), state(mill, socket)) == ("active", "active")
    mill.run(f"systemctl stop {service}")
    assert (state(mill, service), state(mill, socket)) == ("inactive", "inactive")
    mill.run(f"systemctl start {service}")
    assert (state(mill, service), state(mill, socket)) == ("active", "active")
    mill.run("systemctl stop pgmill.target")
    eventually(lambda: (state(mill, service), state(mill, socket)) == ("inactive", "inactive"))
    mill.run("systemctl start pgmill.target")
    eventually(lambda: (state(mill, service), state(mill, socket)) == ("active", "active"))


def test_from_no_worker_to_a_completed_task(mill: Machine) -> None:
    service, socket = "pgmill-worker@demand.service", "pgmill-worker@demand.socket"
    mill.write("/etc/pgmill/worker@demand.conf", "PGMILL_QUEUES=demand\nPGMILL_IDLE_EXIT=1s\n")
    mill.run(f"systemctl enable --now {socket}")
    assert (state(mill, service), state(mill, socket)) == ("inactive", "active")
    assert "demand  stopped" in mill.out("pgmill local", user="pgmill")
    for _ in range(2):
        assert wait(mill, submit(mill, "say", "--queue=demand"), "COMPLETED")
        eventually(lambda: state(mill, service) == "inactive")
        # Ended by itself, and well; nothing starts it but the next task.
        assert [mill.show(service, what) for what in ("Result", "ExecMainStatus", "NRestarts")] == ["success", "0", "0"]
        assert state(mill, socket) == "active"
    assert mill.journal(f"-u {service}").count("Nothing to do for 1s (IdleExitSec=): ending") == 2
    assert json.loads(mill.out("pgmill local --json demand", user="pgmill"))["name"] == "demand"  # asking starts it
    eventually(lambda: state(mill, service) == "inactive")
    mill.run(f"systemctl disable --now {socket}; rm /etc/pgmill/worker@demand.conf")


def test_settings_that_recovery_depends_on(mill: Machine) -> None:
    shown = dict(line.split("=", 1) for line in mill.out(
        "systemctl show pgmill-worker@1.service -p KillMode,Restart,RestartUSec,StartLimitIntervalUSec,WatchdogUSec,"
        "TimeoutAbortUSec,TimeoutStopUSec,OOMPolicy,Delegate,RestartPreventExitStatus").splitlines())
    assert shown == {
        "KillMode": "mixed", "Restart": "always", "RestartUSec": "100ms", "StartLimitIntervalUSec": "0", "WatchdogUSec": "10s",
        "TimeoutAbortUSec": "2s", "TimeoutStopUSec": "1min 30s", "OOMPolicy": "continue", "Delegate": "yes",
        "RestartPreventExitStatus": "0 64 78 200 203 209 210 215 216 217 218 222 224 225 226 228 229 231 232 233 235 238 242 243"}


def test_the_journal_explains_a_task_that_failed_for_good(mill: Machine) -> None:
    id = submit(mill, "fail")
    wait(mill, id, "FAILED")
    explained = eventually(lambda: (text := mill.out(f"journalctl --sync; journalctl -q -x PGMILL_TASK={id}"))
                           and "Failed for good" in text and text)
    for line in ("Attempt 1 of 3 begins", "broken", "Failed for good in attempt 1 of 3", f"Task {id} (fail) failed for good",
                 f"pgmill retry {id}"):
        assert line in explained, explained
