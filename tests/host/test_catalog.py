# SPDX-License-Identifier: MIT
"""The journal's catalogue explains each line that has an id, and no others."""

import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
CATALOG = ROOT / "units/pgmill.catalog"
IDS = dict(re.findall(r'^#define LOG_ID_(\w+) +"([0-9a-f]{32})"', (ROOT / "src/base/log_id.h").read_text(), re.M))


def test_ids_and_entries_are_the_same() -> None:
    entries = re.findall(r"^-- ([0-9a-f]{32})$", CATALOG.read_text(), re.M)
    assert len(IDS) >= 8 and len(set(IDS.values())) == len(IDS)
    assert sorted(entries) == sorted(IDS.values())


def test_each_id_is_used() -> None:
    code = "".join(path.read_text() for path in (ROOT / "src").rglob("*.c"))
    assert [name for name in IDS if f"LOG_ID_{name}" not in code] == []


def test_journalctl_takes_the_catalogue_and_shows_each_entry(folder: pathlib.Path) -> None:
    if not shutil.which("journalctl"):
        pytest.skip("journalctl is missing: it comes with systemd")
    catalogs, state = folder / "usr/lib/systemd/catalog", folder / "var/lib/systemd/catalog"
    catalogs.mkdir(parents=True)
    state.mkdir(parents=True)
    shutil.copy(CATALOG, catalogs)

    def journalctl(*arguments: str) -> str:
        done = subprocess.run(["journalctl", f"--root={folder}", "--no-pager", *arguments], capture_output=True, text=True,
                              check=True)
        assert done.stderr == ""
        return done.stdout

    journalctl("--update-catalog")
    listed = journalctl("--list-catalog").splitlines()
    assert sorted(line.split()[0] for line in listed) == sorted(IDS.values())
    for id in IDS.values():
        entry = journalctl("--dump-catalog", id)
        assert "\nDefined-By: pgmill\n" in entry and "\nDocumentation: man:pgmill" in entry
        assert entry.rstrip().count("\n\n") >= 3, f"what happened, what pgmill does, what to do: {entry}"
