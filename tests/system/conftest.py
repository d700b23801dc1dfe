# SPDX-License-Identifier: MIT
"""A booted Debian for the session, and pgmill installed on it as an operator would."""

import os
import pathlib
import shutil
import signal
import subprocess
from collections.abc import Iterator

import pytest

from system.machine import Machine, cgroups, own_mounts

ROOT = pathlib.Path(__file__).resolve().parents[2]
NEEDED = ("systemd-nspawn", "mmdebstrap", "nsenter")
# Debian 13 has systemd 257 and PostgreSQL 17, Debian 12 has 252 and 15. What is tested on one alone brings its packages.
SUITES = {"trixie": ("systemd-container", "autopkgtest", "rpm"), "bookworm": ()}


def missing() -> str:
    """Why this machine cannot boot another one; "" if it can."""
    if os.geteuid() != 0:
        return "the system tests boot containers, which takes root"
    if lacking := [tool for tool in NEEDED if not shutil.which(tool)]:
        return f"run contrib/deps system first; missing: {' '.join(lacking)}"
    if not os.access(cgroups(), os.W_OK):
        return "there are no control groups v2 here that may be written to"
    if subprocess.run(["unshare", "--mount", "true"]).returncode:
        return "root may not make namespaces here"
    return ""


def output(*command: str | pathlib.Path) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


@pytest.fixture(scope="session")
def deb() -> str:
    """PGMILL_DEB: one that is there already."""
    return os.environ.get("PGMILL_DEB") or output(ROOT / "packaging/deb/build")


@pytest.fixture(scope="session")
def containers() -> None:
    """Makes this process ready to boot machines, or skips."""
    if why := missing():
        pytest.skip(why)
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("SIGTERM"))  # then containers are ended as well
    own_mounts()


def root_of(suite: str) -> str:
    return output(ROOT / "packaging/appliance/root", suite, *SUITES[suite])


@pytest.fixture(scope="session", params=[pytest.param(suite, marks=pytest.mark.xdist_group(suite)) for suite in SUITES])
def machine(request: pytest.FixtureRequest, containers: None) -> Iterator[Machine]:
    machine = Machine(root_of(request.param), request.param)
    yield machine
    machine.close()


@pytest.fixture(scope="session")
def mill(machine: Machine, deb: str) -> Machine:
    """Installed and set up, with two workers and handlers for the tests."""
    # A network that never comes up, as where a cable is missing: the database is on this host, and nobody needs one.
    machine.write("/run/systemd/system/never-online.service", "[Unit]\nBefore=network-online.target\n"
                  "[Service]\nType=oneshot\nExecStart=sleep infinity\nTimeoutStartSec=infinity\n")
    machine.run("systemctl add-wants --runtime network-online.target never-online.service")
    machine.copy(deb, "/root/pgmill.deb")
    machine.run("apt-get -q -y install /root/pgmill.deb postgresql && pgmill setup", within=600)
    for name, lines in HANDLERS.items():
        machine.write(f"/etc/pgmill/tasks.d/{name}.conf", "[Task]\n" + lines)
    machine.run("systemctl reload 'pgmill-worker@*.service'")
    return machine


HANDLERS = {
    "hold": "Exec=/bin/sleep 600\n",
    "brief": "Exec=/bin/sleep 0.1\n",
    "say": "Exec=/bin/sh -c \"echo working >&2\"\n",
    "fail": "Exec=/bin/sh -c \"echo broken >&2; exit 65\"\n",
}
