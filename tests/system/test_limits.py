# SPDX-License-Identifier: MIT
"""Limits of handler files, on a machine whose service manager delegates control groups; and time at a stop."""

import json

import pytest

from support.process import eventually
from system.machine import Machine

# Beside each of them a neighbour takes a nap of 100 ms a hundred times, and says how long the longest one took.
NEIGHBOUR = """#!/bin/sh
longest=0
for i in $(seq 100); do
    from=$(date +%s%N)
    sleep 0.1
    took=$(( ($(date +%s%N) - from) / 1000000 ))
    [ $took -le $longest ] || longest=$took
done
echo $longest
"""
FORKS = "#!/bin/sh\nfor i in $(seq 500); do sleep 60 & done\nexit 1\n"
MEMORY = "#!/bin/sh\nexec tail -c 1G /dev/zero\n"
CO = "#!/bin/sh\nread -r line\nexec tail -c 1G /dev/zero\n"


@pytest.fixture(scope="module")
def limited(mill: Machine) -> Machine:
    controllers = mill.out("cat /sys/fs/cgroup/cgroup.controllers").split()
    if not {"memory", "pids"} <= set(controllers):
        pytest.skip(f"this machine's kernel gives a container no more control groups than {controllers}")
    for name, text in ("neighbour", NEIGHBOUR), ("forks", FORKS), ("memory", MEMORY), ("co", CO):
        mill.write(f"/usr/local/bin/{name}", text, 0o755)
    common = "MaxAttempts=1\nTimeout=60s\n"
    for name, lines in {"neighbour": "", "forks": "TasksMax=32\n", "memory": "MemoryMax=64M\n",
                        "co": "MemoryMax=64M\nMode=stream\n"}.items():
        mill.write(f"/etc/pgmill/tasks.d/{name}.conf", f"[Task]\nExec=/usr/local/bin/{name}\n{common}{lines}")
    mill.run("systemctl reload 'pgmill-worker@*.service'")
    return mill


def submit(mill: Machine, name: str) -> str:
    return mill.out(f"pgmill submit {name}", user="pgmill")


def task(mill: Machine, id: str) -> dict:
    return json.loads(mill.out(f"curl -sS http://localhost:8000/api/tasks/{id}"))


def wait(mill: Machine, id: str, *statuses: str) -> dict:
    return eventually(lambda: (t := task(mill, id)) and t["status"] in statuses and t, within=90)


@pytest.mark.parametrize("name", ["forks", "memory", "co"])
def test_one_beyond_its_limits_ends_with_a_clear_error_and_its_neighbour_goes_on(
        limited: Machine, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    neighbour = submit(limited, "neighbour")
    wait(limited, neighbour, "RUNNING")
    culprit = submit(limited, name)
    error = wait(limited, culprit, "FAILED")["errors"][0]
    if name == "forks":
        assert error["tasks_max_reached"], error
    else:
        assert error["error"].startswith("oom: "), error
    done = wait(limited, neighbour, "COMPLETED", "FAILED")
    assert (done["status"], done["attempt"]) == ("COMPLETED", 1)
    with capsys.disabled():
        print(f"\nbeside {name}: a nap of 100 ms of its neighbour took at most {done['result']} ms")
    assert limited.out("systemctl is-system-running") == "running"


def test_a_drain_may_take_longer_than_the_units_time_to_stop(mill: Machine) -> None:
    """The worker asks for more, and systemd grants it."""
    mill.write("/etc/pgmill/tasks.d/long.conf", "[Task]\nExec=/bin/sleep 6\n")
    mill.write("/etc/pgmill/worker@slow.conf", "PGMILL_QUEUES=slow\nPGMILL_DRAIN=60s\n")
    mill.write("/etc/systemd/system/pgmill-worker@slow.service.d/test.conf", "[Service]\nTimeoutStopSec=3\n")
    mill.run("systemctl daemon-reload; systemctl start pgmill-worker@slow.service")
    id = mill.out("pgmill submit --queue=slow long", user="pgmill")
    # Its worker may hold a task that is RUNNING, and not yet have started its program.
    eventually(lambda: "Attempt 1" in mill.journal(f"PGMILL_TASK={id}"))
    mill.run("systemctl stop pgmill-worker@slow.service")
    assert mill.show("pgmill-worker@slow.service", "Result") == "success"
    done = task(mill, id)
    assert (done["status"], done["attempt"]) == ("COMPLETED", 1)
