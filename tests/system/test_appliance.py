# SPDX-License-Identifier: MIT
"""The appliance: booted by its own commands, as a portable service of another host, and as an OCI image."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator

import pytest

from system.conftest import ROOT, root_of
from system.machine import Machine, Network, eventually

pytestmark = pytest.mark.xdist_group("two")
HERE = ROOT / "packaging/appliance"


class Appliance:
    """Its commands, on a host whose network nobody else is in."""

    def __init__(self, folder: pathlib.Path, deb: str) -> None:
        self.network = Network()
        subprocess.run([*self.network.enter, "ip", "link", "set", "lo", "up"], check=True)
        self.environment = os.environ | {"PGMILL_APPLIANCE": str(folder), "PGMILL_DEB": deb, "PGMILL_PORT": "8123"}
        self.root = folder / "root"

    def run(self, *command: str | pathlib.Path) -> str:
        done = subprocess.run([*self.network.enter, *command], env=self.environment, text=True, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=900)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def task(self) -> str:
        return json.loads(self.run("curl", "-fsS", "localhost:8123/api/tasks/", "-H", "Content-Type: application/json",
                                   "-d", '{"name": "example_task", "payload": [1]}'))["id"]

    def status(self, id: str) -> str:
        return json.loads(self.run("curl", "-fsS", f"localhost:8123/api/tasks/{id}?wait=30"))["status"]


@pytest.fixture(scope="module")
def appliance(containers: None, deb: str) -> Iterator[Appliance]:
    folder = pathlib.Path(tempfile.mkdtemp(prefix="pgm-appliance-", dir="/var/tmp"))
    appliance = Appliance(folder, deb)
    appliance.run(HERE / "build")
    yield appliance
    appliance.run(HERE / "down")
    appliance.network.close()
    shutil.rmtree(folder)


def test_its_data_survive_building_it_anew(appliance: Appliance) -> None:
    assert "http://localhost:8123 answers" in appliance.run(HERE / "up")
    first = appliance.task()
    assert appliance.status(first) == "COMPLETED"
    assert appliance.run(HERE / "shell", "systemctl", "is-system-running", "--wait") == "running"
    assert "17." in appliance.run(HERE / "shell", "psql", "--version")
    assert "Serving 127.0.0.1:8123" in appliance.run(HERE / "logs")
    assert first in appliance.run(HERE / "logs", "-q", "-o", "cat", "-F", "PGMILL_TASK")
    appliance.run(HERE / "shell", "systemctl", "enable", "--now", "pgmill-worker@3")
    appliance.run(HERE / "shell", "systemctl", "disable", "--now", "pgmill-worker@2")
    appliance.run(HERE / "down")
    appliance.run(HERE / "build")
    appliance.run(HERE / "up")
    assert appliance.status(first) == "COMPLETED" and appliance.status(appliance.task()) == "COMPLETED"
    appliance.run(HERE / "shell", "systemctl", "is-system-running", "--wait")
    assert appliance.run(HERE / "shell", "systemctl", "is-active", "pgmill-worker@3") == "active"
    assert appliance.run(HERE / "shell", "systemctl", "show", "-P", "ActiveState", "pgmill-worker@2") == "inactive"
    assert first in appliance.run(HERE / "logs", "-q", "-o", "cat", "-F", "PGMILL_TASK")
    appliance.run(HERE / "down")
    # What the other forms are made from has seen nothing of all this.
    assert not list((appliance.root / "var/log/journal").iterdir()) and not (appliance.root / "etc/machine-id").read_text()
    assert not list((appliance.root / "etc/systemd/system").glob("*/pgmill*"))


def test_it_does_not_take_another_server_for_its_own(appliance: Appliance) -> None:
    other = subprocess.Popen([*appliance.network.enter, "python3", "-u", "-m", "http.server", "--bind", "127.0.0.1", "8123"],
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert other.stdout and other.stdout.readline()
        with pytest.raises(AssertionError, match="port 8123 is taken"):
            appliance.run(HERE / "up")
    finally:
        other.kill()
        other.wait()


def test_it_can_be_shut_down_while_it_boots(appliance: Appliance) -> None:
    booting = subprocess.Popen([*appliance.network.enter, HERE / "up"], env=appliance.environment,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    eventually((appliance.root.parent / "pid").exists)
    appliance.run(HERE / "down")
    booting.wait(600)


def test_a_host_with_systemd_keeps_it_as_a_unit(appliance: Appliance) -> None:
    folder, unit = appliance.root.parent, "pgmill-appliance.service"
    machine = Machine(root_of("trixie"), "host", None, f"--bind={folder}", f"--bind-ro={HERE}")
    try:
        for command, state in ("up", "active"), ("shell systemctl is-system-running --wait", "active"), ("down", "inactive"):
            machine.run(f"PGMILL_APPLIANCE={folder} {HERE}/{command}", within=600)
            assert machine.show(unit, "ActiveState") == state
        assert machine.run("curl -sS -m 5 localhost:8000/healthz", check=False).returncode == 7
    finally:
        machine.close()


def test_another_host_runs_it_as_a_portable_service(appliance: Appliance) -> None:
    image = "/var/lib/portables/pgmill"
    machine = Machine(root_of("trixie"), "portable", None, f"--bind-ro={appliance.root}:{image}")
    try:
        # As it is on a machine that is no container: what services with a root of their own see there is systemd's to make.
        machine.run("while umount -l /run/host/os-release; do :; done; mount -o remount,rw /run/host; rm /run/host/os-release")
        machine.run(f"for file in passwd group; do grep ^pgmill: {image}/etc/$file >>/etc/$file; done")
        assert machine.run("test -e /usr/bin/pgmill", check=False).returncode == 1
        machine.run(f"{image}/usr/bin/pgmill setup --database-only")
        machine.run(f"portablectl attach --profile=trusted {image} pgmill")
        machine.run("systemctl start pgmill-api.socket pgmill-worker@1.service")
        id = json.loads(machine.out("curl -fsS localhost:8000/api/tasks/ -H 'Content-Type: application/json' "
                                    """-d '{"name": "example_task"}'"""))["id"]
        assert json.loads(machine.out(f"curl -fsS 'localhost:8000/api/tasks/{id}?wait=30'"))["status"] == "COMPLETED"
        for unit in "pgmill-worker@1.service", "pgmill-api.service":
            assert machine.show(unit, "RootDirectory") == image
        machine.run("systemctl stop 'pgmill-*'; portablectl detach pgmill")
        assert machine.show("pgmill-api.service", "LoadState") == "not-found"
    finally:
        machine.close()


def test_is_an_oci_image_whose_entry_point_is_pgmill(appliance: Appliance, tmp_path: pathlib.Path) -> None:
    image = appliance.run(HERE / "build", "oci")
    config = json.loads(appliance.run("skopeo", "inspect", "--config", f"oci-archive:{image}"))["config"]
    assert (config["User"], config["Entrypoint"], config["Cmd"]) == ("pgmill", ["/usr/bin/pgmill"], ["api"])
    (tmp_path / "layout").mkdir()
    appliance.run("tar", "-x", "-C", tmp_path / "layout", "-f", image)
    appliance.run("umoci", "unpack", "--image", f"{tmp_path}/layout:latest", tmp_path / "bundle")
    assert "pgmill 0.1" in appliance.run("chroot", tmp_path / "bundle/rootfs", *config["Entrypoint"], "version")
    shutil.rmtree(tmp_path / "bundle")
