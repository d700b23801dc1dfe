# SPDX-License-Identifier: MIT
"""The appliance as a disk, which a virtual machine boots: a kernel of its own, with every controller of control groups."""

import base64
import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest

from system.conftest import ROOT

FIRMWARE = pathlib.Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
pytestmark = [
    pytest.mark.xdist_group("disk"),
    pytest.mark.skipif(not (shutil.which("qemu-system-x86_64") and FIRMWARE.exists()),
                       reason="booting a disk takes qemu-system-x86 and ovmf"),
]
HOG = """perl -e '$x .= "x" x 1048576 while 1'"""
# Beside each culprit a neighbour takes a nap of 100 ms fifty times, and says how long the longest one took.
PROGRAMS = {
    "neighbour": """longest=0
for i in $(seq 50); do
    from=$(date +%s%N)
    sleep 0.1
    took=$(( ($(date +%s%N) - from) / 1000000 ))
    [ $took -le $longest ] || longest=$took
done
echo $longest
""",
    "forks": "for i in $(seq 500); do sleep 60 & done\nexit 1\n",
    "memory": f"exec {HOG}\n",
    "co": f"read -r line\nexec {HOG}\n",
    "beyond": "exec bash -c 'exec 3<>/dev/tcp/192.0.2.7/9'\n",
}
LIMITS = {"neighbour": "", "forks": "TasksMax=32\n", "memory": "MemoryMax=64M\n", "co": "MemoryMax=64M\nMode=stream\n", "beyond": "Timeout=10s\n"}
# Runs when the machine has been set up, tells on its second serial line what became of each task, and turns it off.
UNIT = """[Unit]
After=appliance.service
[Service]
Type=oneshot
ImportCredential=check
StandardOutput=file:/dev/ttyS1
ExecStart=/bin/bash -eu ${CREDENTIALS_DIRECTORY}/check
ExecStopPost=systemctl --no-block poweroff
"""
CHECK = """
submit() { setpriv --reuid=pgmill --regid=pgmill --init-groups pgmill submit "$1"; }
show() { curl -fsS "localhost:8000/api/tasks/$1"; }
tell() {
    until [[ $(show "$2") == *'"finished_at": "'* ]]; do sleep 0.5; done
    echo "$1 $(show "$2")"
}
systemctl reload 'pgmill-worker@*.service'
tell example "$(submit example_task)"
ip address add 192.0.2.7/32 dev lo
tell beyond "$(submit beyond)"
for culprit in forks memory co; do
    neighbour=$(submit neighbour)
    until [[ $(show "$neighbour") =~ RUNNING|COMPLETED ]]; do sleep 0.1; done
    tell $culprit "$(submit $culprit)"
    tell neighbour "$neighbour"
done
"""


def files() -> str:
    """Shell that writes programs, and handlers that run them."""
    return "".join(
        f"cat >/usr/local/bin/{name} <<'END'\n#!/bin/sh\n{PROGRAMS[name]}END\nchmod 755 /usr/local/bin/{name}\n"
        f"cat >/etc/pgmill/tasks.d/{name}.conf <<'END'\n[Task]\nExec=/usr/local/bin/{name}\nMaxAttempts=1\n{limit}END\n"
        for name, limit in LIMITS.items())


def options(given: dict[str, str]) -> list[str]:
    """Credentials that come with the machine: systemd.system-credentials(7)."""
    coded = {name: base64.b64encode(text.encode()).decode() for name, text in given.items()}
    return [word for name, text in coded.items() for word in ("-smbios", f"type=11,value=io.systemd.credential.binary:{name}={text}")]


@pytest.fixture(scope="module")
def told(containers: None, deb: str, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, dict]]:
    """What each task was called, and what became of it."""
    folder = tmp_path_factory.mktemp("disk")
    environment = os.environ | {"PGMILL_APPLIANCE": str(folder), "PGMILL_DEB": deb}
    disk = subprocess.run([ROOT / "packaging/appliance/build", "disk"], env=environment, text=True, stdout=subprocess.PIPE,
                          check=True).stdout.strip()
    given = options({"systemd.extra-unit.check.service": UNIT, "check": files() + CHECK,
                     "systemd.unit-dropin.multi-user.target": "[Unit]\nWants=check.service\n"})
    console = subprocess.run(
        ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "1024",
         "-display", "none", "-no-reboot", "-serial", "stdio", "-serial", f"file:{folder}/told", "-netdev", "user,id=net,restrict=on", "-device", "virtio-net-pci,netdev=net",
         "-drive", f"if=pflash,format=raw,readonly=on,file={FIRMWARE}", "-drive", f"if=virtio,format=raw,file={disk}", *given],
        text=True, errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=1200)
    os.unlink(disk)
    lines = re.findall(r"^(\w+) (\{.*\})$", (folder / "told").read_text(), re.MULTILINE)  # the firmware writes there, too
    assert lines, console.stdout
    return [(name, json.loads(task)) for name, task in lines]


def test_a_virtual_machine_boots_it_and_runs_a_task(told: list[tuple[str, dict]]) -> None:
    name, task = told[0]
    assert (name, task["status"]) == ("example", "COMPLETED")


def test_as_shipped_a_task_reaches_no_other_address_than_loopback(told: list[tuple[str, dict]]) -> None:
    """Here, since it takes a kernel that can; nobody listens there, and so it would be refused otherwise."""
    name, task = told[1]
    assert (name, task["status"], task["error"]) == ("beyond", "FAILED", "timed out after 10 s"), task


@pytest.mark.parametrize("culprit", ["forks", "memory", "co"])
def test_one_beyond_its_limits_ends_with_a_clear_error_and_its_neighbour_goes_on(
        told: list[tuple[str, dict]], culprit: str) -> None:
    at = [name for name, _ in told].index(culprit)
    (_, task), (_, neighbour) = told[at:at + 2]
    error = task["errors"][0]
    assert task["status"] == "FAILED"
    assert error["tasks_max_reached"] if culprit == "forks" else error["error"].startswith("oom: "), error
    assert (neighbour["status"], neighbour["attempt"]) == ("COMPLETED", 1)
    print(f"beside {culprit}: a nap of 100 ms of its neighbour took at most {neighbour['result']} ms")
