# SPDX-License-Identifier: MIT
"""The RPM package over a machine's life. The machine is a Debian, whose rpm knows none of what is installed there."""

import os
from collections.abc import Iterator

import pytest

from system.conftest import ROOT, output, root_of
from system.machine import Machine, eventually

pytestmark = pytest.mark.xdist_group("rpm")
RPM = "rpm --nodeps"


@pytest.fixture(scope="module")
def red(containers: None) -> Iterator[Machine]:
    package = os.environ.get("PGMILL_RPM") or output(ROOT / "packaging/rpm/build")
    machine = Machine(root_of("trixie"), "red")
    try:
        machine.copy(package, "/root/pgmill.rpm")
        machine.run(f"{RPM} --install /root/pgmill.rpm && pgmill setup")
        yield machine
    finally:
        machine.close()


def complete_one(red: Machine) -> None:
    red.write("/etc/pgmill/tasks.d/brief.conf", "[Task]\nExec=/bin/sleep 0.1\n")
    red.run("systemctl reload 'pgmill-worker@*.service'")
    id = red.out("pgmill submit brief", user="pgmill")
    eventually(lambda: red.sql(f"SELECT status FROM pgmill.task WHERE id = '{id}'") == "COMPLETED")


def test_it_installs_and_upgrades(red: Machine) -> None:
    complete_one(red)
    before = [red.show(f"pgmill-{unit}.service", "MainPID") for unit in ("api", "worker@1", "worker@2")]
    red.run(f"{RPM} --upgrade --replacepkgs /root/pgmill.rpm")
    eventually(lambda: not {"0", *before} & {red.show(f"pgmill-{unit}.service", "MainPID")
                                             for unit in ("api", "worker@1", "worker@2")})
    complete_one(red)


def test_it_leaves_nothing_that_runs_or_is_enabled(red: Machine) -> None:
    red.run("rpm --erase pgmill")
    assert red.out("systemctl list-units --no-legend --state=active 'pgmill*'") == ""
    assert red.out("find /etc/systemd /usr/lib/systemd /usr/bin -name '*pgmill*' -not -name '*.d' -not -path '*.d/*'") == ""
