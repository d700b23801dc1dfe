# SPDX-License-Identifier: MIT
"""The appliance as a disk, which a virtual machine boots."""

import base64
import os
import pathlib
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
CHECK = """[Unit]
After=appliance.service
[Service]
Type=oneshot
User=pgmill
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
ExecStart=/bin/sh -euc 'id=$(pgmill submit example_task); curl -fsS "localhost:8000/api/tasks/$$id?wait=60"'
ExecStopPost=+systemctl --no-block poweroff
"""


def test_a_virtual_machine_boots_its_disk(containers: None, deb: str, tmp_path: pathlib.Path) -> None:
    """A service that comes with the machine, as credentials, submits a task, shows how it ended and turns the machine off."""
    environment = os.environ | {"PGMILL_APPLIANCE": str(tmp_path), "PGMILL_DEB": deb}
    disk = subprocess.run([ROOT / "packaging/appliance/build", "disk"], env=environment, text=True, stdout=subprocess.PIPE,
                          check=True).stdout.strip()
    given = {"systemd.extra-unit.check.service": CHECK, "systemd.unit-dropin.multi-user.target": "[Unit]\nWants=check.service\n"}
    credentials = [word for name, text in given.items() for word in (
        "-smbios", f"type=11,value=io.systemd.credential.binary:{name}={base64.b64encode(text.encode()).decode()}")]
    machine = subprocess.run(
        ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "1024",
         "-nographic", "-no-reboot", "-netdev", "user,id=net,restrict=on", "-device", "virtio-net-pci,netdev=net",
         "-drive", f"if=pflash,format=raw,readonly=on,file={FIRMWARE}", "-drive", f"if=virtio,format=raw,file={disk}", *credentials],
        text=True, errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600)
    os.unlink(disk)
    assert '"status": "COMPLETED"' in machine.stdout, machine.stdout
