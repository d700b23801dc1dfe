# SPDX-License-Identifier: MIT
"""What the benchmarks share: a throwaway cluster with fsync on, and a look at a process."""

import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def cluster() -> Iterator[str]:
    user = os.environ.get("PGMILL_USER", "nobody")
    folder = tempfile.mkdtemp(prefix="pgmill-bench-", dir="/tmp")
    environment = os.environ | {"PGMILL_USER": user}

    def run(*words: str) -> str:
        command = [str(ROOT / "contrib/cluster"), *words]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()

    if os.geteuid() == 0:
        shutil.chown(folder, user)
    try:
        run("start", folder)
        try:
            yield run("url", folder, "postgres")
        finally:
            run("stop", folder)
    finally:
        shutil.rmtree(folder)


def memory(pid: int) -> float:
    """Resident MB."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024
