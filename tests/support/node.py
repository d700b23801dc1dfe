# SPDX-License-Identifier: MIT
"""Programs from npm's registry, as tests/web/package-lock.json pins them, in build/web; node runs there."""

import fcntl
import pathlib
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build/web"
PINS = [ROOT / "tests/web" / name for name in ("package.json", "package-lock.json")]


def install() -> None:
    """Once for each set of versions. Everything is checked against the checksums of the lock file."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    stamp = FOLDER / "installed"
    with open(FOLDER / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = "".join(pin.read_text() for pin in PINS)
        if stamp.exists() and stamp.read_text() == wanted:
            return
        for pin in PINS:
            shutil.copy(pin, FOLDER)
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"]
        subprocess.run(command, cwd=FOLDER, check=True, timeout=300)
        stamp.write_text(wanted)


def node(*arguments: str, files: list[pathlib.Path], check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs node with copies of the files in the folder, because modules are looked for beside the file."""
    install()
    for file in files:
        shutil.copy(file, FOLDER)
    done = subprocess.run(["node", *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=120)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done
