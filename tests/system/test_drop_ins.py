# SPDX-License-Identifier: MIT
"""What README.md gives handlers beyond the unit as shipped: each drop-in lets them do it, and is needed for it."""

from typing import NamedTuple

import pytest

from system.machine import Machine
from system.test_services import drop_in, submit, wait


class More(NamedTuple):
    exposure: float
    lines: list[str]
    before: str  # what there must be on the host
    exec: str    # prints "hello"
    since: int = 0           # the first systemd that gives it
    unless: str = "false"    # succeeds where this kernel keeps nobody from it


MORE = {
    "network": More(1.5, ["IPAddressDeny="],
                    "ip address replace 192.0.2.7/32 dev lo; systemd-run --quiet --collect --unit=hello "
                    "systemd-socket-activate -l 192.0.2.7:7 --accept --inetd echo hello",
                    '/bin/bash -c "read -r line </dev/tcp/192.0.2.7/7; echo $line"', unless="systemd-run --quiet --wait --collect "
                    "-p IPAddressDeny=any -p IPAddressAllow=localhost /bin/bash -c ': </dev/tcp/192.0.2.7/7'"),
    "home": More(1.6, ["ProtectHome=read-only", "PrivateUsers=no"],
                 "mkdir -p /home/somebody; echo hello >/home/somebody/note",
                 "/bin/cat /home/somebody/note"),
    "folder": More(1.4, ["ReadWritePaths=/srv/media"],
                   "install -d -o pgmill /srv/media",
                   '/bin/sh -c "echo hello >/srv/media/note && cat /srv/media/note"'),
    "devices": More(1.6, ["PrivateDevices=no", "DeviceAllow=/dev/net/tun rw"],
                    "chmod 666 /dev/net/tun",
                    '/bin/sh -ec "exec 3<>/dev/net/tun; echo hello"'),
    # As Postfix's: a program of a group that may write where others may not.
    "mail": More(1.9, ["NoNewPrivileges=no", "PrivateUsers=no", "RestrictSUIDSGID=no", "ReadWritePaths=/var/spool"],
                 "install -d -g mail -m 730 /var/spool/drop; install -g mail -m 2755 /usr/bin/tee /usr/local/bin/drop",
                 '/bin/sh -ec "echo hello | /usr/local/bin/drop /var/spool/drop/letter"', since=254),
}


@pytest.mark.parametrize("name", MORE)
def test_a_drop_in_gives_what_the_unit_does_not(mill: Machine, name: str) -> None:
    more, unit = MORE[name], f"pgmill-worker@{name}.service"
    mill.run(more.before)
    mill.write(f"/etc/pgmill/tasks.d/{name}.conf", f"[Task]\nMaxAttempts=1\nTimeout=20s\nExec={more.exec}\n")
    mill.write(f"/etc/pgmill/worker@{name}.conf", f"PGMILL_QUEUES={name}\n")
    drop_in(mill, unit, "[Service]", *more.lines)
    mill.run(f"systemctl start {unit}; systemctl reload 'pgmill-worker@*.service'")
    exposure = mill.out(f"systemd-analyze security {unit} --no-pager | tail -n 1")
    print(exposure)
    assert float(exposure.split(": ")[1].split()[0]) <= more.exposure
    given = wait(mill, submit(mill, name, f"--queue={name}"), "COMPLETED", "FAILED")
    if int(mill.out("systemctl --version | sed -n 's/^systemd \\([0-9]*\\).*/\\1/p'")) >= more.since:
        assert given["result"] == "hello", given["errors"]
    else:
        assert given["status"] == "FAILED"
    as_shipped = wait(mill, submit(mill, name), "COMPLETED", "FAILED")["status"]
    assert as_shipped == "FAILED" or mill.run(more.unless, check=False).returncode == 0
    mill.run(f"systemctl stop {unit}; rm /etc/pgmill/worker@{name}.conf /etc/pgmill/tasks.d/{name}.conf")
