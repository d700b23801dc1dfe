# SPDX-License-Identifier: MIT
"""What is built from a clone is built where Debian's least is there, and what contrib/deps installs."""

import os
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator

import pytest

from .conftest import ROOT, output

# A network is needed, and apt's lists and packages, as of one machine that is made bare again and again.
KEPT = pathlib.Path(os.environ.get("PGMILL_ROOTS", "/var/cache/pgmill-roots"))
BINDS = {"apt": "/var/cache/apt/archives", "lists": "/var/lib/apt/lists", "cache": "/root/.cache"}


class Bare:
    """A copy-on-write view of a root in which nothing was booted, with a clone of this repository in it."""

    def __init__(self, root: str, suite: str) -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="pgm-bare-", dir="/var/tmp"))
        self.root = self.folder / "root"
        for part in ("upper", "work", "root"):
            (self.folder / part).mkdir(mode=0o755)
        layers = f"lowerdir={root},upperdir={self.folder}/upper,workdir={self.folder}/work"
        self.mounts: list[pathlib.Path] = []
        self._mount("", "-t", "overlay", "-o", layers, "overlay")
        for name in ("/sys", "/dev"):
            self._mount(name, "--rbind", name)
        for name, place in BINDS.items():
            source = KEPT / f"bare-{suite}-{name}"
            source.mkdir(exist_ok=True)
            self._mount(place, "--bind", str(source))
        self._mount("/roots", "--bind", str(KEPT))
        (self.root / "etc/resolv.conf").unlink(missing_ok=True)
        shutil.copy("/etc/resolv.conf", self.root / "etc/resolv.conf")
        subprocess.run(["git", "clone", "-q", "--no-hardlinks", str(ROOT), str(self.root / "pgmill")], check=True)

    def _mount(self, place: str, *how: str) -> None:
        path = pathlib.Path(f"{self.root}{place}")
        path.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", *how, str(path)], check=True)
        self.mounts.append(path)

    def run(self, script: str, within: float = 1500) -> str:
        done = subprocess.run(
            ["unshare", "--pid", "--mount", "--fork", "--kill-child", "sh", "-euc",
             'mount -t proc proc "$0/proc"; exec chroot "$0" "$@"', str(self.root), "/usr/bin/env", "-i", "HOME=/root",
             "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "PGMILL_ROOTS=/roots", "DEBIAN_FRONTEND=noninteractive",
             "/bin/bash", "-euc", f"cd /pgmill; {script}"],
            text=True, timeout=within, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert done.returncode == 0, f"{script}: {done.returncode}\n{done.stdout[-6000:]}"
        return done.stdout

    def close(self) -> None:
        for path in reversed(self.mounts):
            subprocess.run(["umount", "--recursive", "--lazy", str(path)], check=True)
        shutil.rmtree(self.folder)


@pytest.fixture
def bare(containers: None) -> Iterator[Callable[[str], Bare]]:
    made: list[Bare] = []

    def make(suite: str) -> Bare:
        made.append(Bare(output(ROOT / "packaging/appliance/root", suite, "--bare"), suite))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.xdist_group("bare")
@pytest.mark.parametrize("kind", ["deb"])
def test_what_contrib_deps_installs_is_enough_to_build(bare: Callable[[str], Bare], kind: str) -> None:
    machine = bare("trixie")
    machine.run(f"contrib/deps {kind}")
    made = machine.run(f"packaging/{kind}/build").splitlines()[-1]
    assert (machine.root / made.lstrip("/")).exists(), made
