# SPDX-License-Identifier: MIT
"""A Debian that systemd has booted, in a container of this machine, and what a test does in it."""

import contextlib
import ctypes
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import TypeVar

from support import process

T = TypeVar("T")
CLONE_NEWNS = 0x20000


def eventually(look: Callable[[], T], within: float = 120) -> T:
    """As in other tests, with a patience for machines that share two processors."""
    return process.eventually(look, within)


def own_mounts() -> None:
    """From now on, what is mounted here is seen by this process and its children alone, and goes with them."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) < 0:
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


def cgroups() -> pathlib.Path:
    """Where the tree of cgroup v2 is mounted; a path that is not there, if it is not."""
    mounts = [line.split() for line in pathlib.Path("/proc/mounts").read_text().splitlines()]
    return pathlib.Path(next((words[1] for words in mounts if words[2] == "cgroup2"), "/nonexistent"))


def own_cgroup(name: str) -> pathlib.Path:
    """A container lives below the cgroup it was started in: two in one would end each other's services."""
    cgroup = cgroups() / name
    cgroup.mkdir(exist_ok=True)
    return cgroup


class Network:
    """A bridge in a network namespace of its own, which nothing else is in: machines on it reach each other alone."""

    def __init__(self) -> None:
        self.holder = subprocess.Popen(["unshare", "--net", "sh", "-euc", "ip link add mill type bridge; ip link set mill up; "
                                        "echo; exec sleep infinity"], stdout=subprocess.PIPE)
        assert self.holder.stdout and self.holder.stdout.readline()
        self.enter = ("nsenter", f"--net=/proc/{self.holder.pid}/ns/net", "--")

    def link(self, name: str, state: str) -> None:
        """Plugs a machine's cable in ("up") or out ("down")."""
        subprocess.run([*self.enter, "ip", "link", "set", f"vb-{name}", state], check=True)

    def close(self) -> None:
        self.holder.kill()
        self.holder.wait()


class Machine:
    """Boots a copy-on-write view of a root; a host of its own, with nothing but a loopback interface, unless it is on a
    network. Further options are systemd-nspawn's."""

    def __init__(self, root: str, name: str, network: Network | None = None, *options: str) -> None:
        self.enter = network.enter if network else ()
        self.options = ("--network-bridge=mill" if network else "--private-network", *options)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"pgm-{name}-", dir="/var/tmp"))
        self.root = self.folder / "root"
        for part in ("upper", "work", "root"):
            (self.folder / part).mkdir(mode=0o755)
        layers = f"lowerdir={root},upperdir={self.folder}/upper,workdir={self.folder}/work"
        subprocess.run(["mount", "-t", "overlay", "-o", layers, "overlay", str(self.root)], check=True)
        self.name = name
        try:
            self._boot()
        except BaseException:
            self.close()
            raise

    def _boot(self) -> None:
        began, self.leader = time.monotonic(), 0
        self.console = open(self.folder / "console", "wb")
        self.cgroup = own_cgroup(self.folder.name)
        # The variable: a tree of cgroup v2 alone, whatever this machine has.
        self.nspawn = subprocess.Popen(
            [*self.enter, "systemd-nspawn", "--quiet", f"--directory={self.root}", f"--machine={self.name}", "--boot", "--register=no",
             "--keep-unit", "--link-journal=no", "--console=read-only", "--resolv-conf=off", "--timezone=off",
             *self.options],
            env=os.environ | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}, stdin=subprocess.DEVNULL,
            stdout=self.console, stderr=subprocess.STDOUT, start_new_session=True,
            preexec_fn=lambda: (self.cgroup / "cgroup.procs").write_text("0") and None)
        self.leader = eventually(self._leader)
        eventually(lambda: self.run("test -S /run/systemd/private", check=False).returncode == 0)
        state = self.run("systemctl is-system-running --wait", check=False).stdout.strip()
        assert state == "running", f"{state}: {self.run('systemctl --failed', check=False).stdout}"
        self.boot_seconds = time.monotonic() - began

    def reboot(self) -> None:
        self.run("systemctl --no-block poweroff")
        self.nspawn.wait(300)
        self.console.close()
        self._boot()

    def _leader(self) -> int:
        assert self.nspawn.poll() is None, (self.folder / "console").read_text()
        for pid in pathlib.Path(f"/proc/{self.nspawn.pid}/task/{self.nspawn.pid}/children").read_text().split():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if pathlib.Path(f"/proc/{pid}/comm").read_text() == "systemd\n":
                    return int(pid)
        return 0  # still the one that makes the container

    def command(self, *words: str, user: str = "root") -> list[str]:
        enter = ["nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--",
                 "/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "SYSTEMD_COLORS=0",
                 "SYSTEMD_PAGER=", "DEBIAN_FRONTEND=noninteractive", "HOME=/"]
        return [*enter, *(["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"] if user != "root" else []),
                *words]

    def run(self, script: str, check: bool = True, user: str = "root",
            within: float = 300) -> subprocess.CompletedProcess[str]:
        """A shell script inside."""
        done = subprocess.run(self.command("/bin/sh", "-euc", script, user=user), text=True, timeout=within,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert not check or done.returncode == 0, f"{script}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def out(self, script: str, user: str = "root", within: float = 300) -> str:
        return self.run(script, user=user, within=within).stdout.strip()

    def start(self, *words: str, user: str = "root") -> subprocess.Popen[str]:
        """A program inside, beside the test."""
        return subprocess.Popen(self.command(*words, user=user), text=True, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """A file inside, by way of the running system."""
        subprocess.run(self.command("/bin/sh", "-euc", f"mkdir -p {os.path.dirname(path)}; cat >{path}; chmod {mode:o} {path}"),
                       input=text, text=True, check=True)

    def copy(self, source: str, path: str) -> None:
        with open(source, "rb") as file:
            subprocess.run(self.command("/bin/sh", "-euc", f"cat >{path}"), stdin=file, check=True)

    def sql(self, statement: str, database: str = "pgmill") -> str:
        done = subprocess.run(self.command("psql", "-qtAX", "-v", "ON_ERROR_STOP=1", database, user="postgres"),
                              input=statement, text=True, stdout=subprocess.PIPE, check=True)
        return done.stdout.strip()

    def install(self, deb: str) -> None:
        self.copy(deb, "/root/pgmill.deb")
        self.run("dpkg -i /root/pgmill.deb")

    def show(self, unit: str, what: str) -> str:
        return self.out(f"systemctl show -P {what} {unit}")

    def journal(self, *matches: str) -> str:
        return self.out("journalctl --sync; journalctl -q -o cat --no-pager " + " ".join(matches))

    def close(self) -> None:
        # No shutdown: nothing of it is kept.
        (self.cgroup / "cgroup.kill").write_text("1")
        self.nspawn.wait(120)
        eventually(lambda: "populated 0" in (self.cgroup / "cgroup.events").read_text())
        for cgroup in cgroups().parent.glob(f"*/{self.cgroup.name}"):  # systemd-nspawn makes one in version 1, where that is
            for folder, _, _ in os.walk(cgroup, topdown=False):
                os.rmdir(folder)
        self.console.close()
        subprocess.run(["umount", str(self.root)], check=True)
        shutil.rmtree(self.folder)
