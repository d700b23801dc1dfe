# SPDX-License-Identifier: MIT
"""What contrib/up runs things by, and how a newcomer speaks to them."""

import os
import pathlib
import signal
import subprocess
from collections.abc import Iterator

import psycopg
import pytest

from support.process import eventually

CONTRIB = pathlib.Path(__file__).resolve().parents[2] / "contrib"


@pytest.fixture
def tasks(pgmill: str, database: str, folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """The folder of handlers of a worker that contrib/supervise runs."""
    tasks = folder / "tasks.d"
    tasks.mkdir()
    (folder / "services.ini").write_text(
        f'[worker]\nExecStart="{pgmill}" worker --database "{database}" --tasks {tasks} w\nReloadOnChange={tasks}\n')
    with subprocess.Popen([CONTRIB / "supervise", folder / "services.ini"], stdout=subprocess.PIPE, text=True) as supervise:
        assert supervise.stdout and supervise.stdout.readline() == "ready\n"
        yield tasks
        supervise.send_signal(signal.SIGTERM)
        assert supervise.wait(60) == 0


def test_a_handler_counts_as_soon_as_it_is_written(tasks: pathlib.Path, db: psycopg.Connection) -> None:
    for name in "one", "two":
        (tasks / f"{name}.conf").write_text("[Task]\nExec=/bin/echo done\n")
        id = db.execute("SELECT pgmill.submit(%s)", [name]).fetchone()[0]
        eventually(lambda: db.execute("SELECT status FROM pgmill.task WHERE id = %s", [id]).fetchone() == ("COMPLETED",))
    (tasks / "one.conf").unlink()
    eventually(lambda: db.execute("SELECT names FROM pgmill.workers").fetchone() == (["two"],))


def test_the_command_line_has_the_handlers_of_what_runs(pgmill: str, folder: pathlib.Path) -> None:
    folder.chmod(0o755)
    state = folder / "state"
    (state / "libexec/tasks.d").mkdir(parents=True)
    (state / "tasks.d").mkdir()
    (state / "tasks.d/mine.conf").write_text("[Task]\nExec=/bin/true\n")
    (state / "libexec/pgmill").symlink_to(pgmill)
    (state / "libexec/cluster").symlink_to(CONTRIB / "cluster")
    environment = os.environ | {"PGMILL_STATE": str(state), "PGMILL_USER": "nobody"}
    if os.geteuid() == 0 and subprocess.run(["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "test", "-x",
                                             pgmill]).returncode:
        pytest.skip("nobody may run this executable")
    done = subprocess.run([CONTRIB / "pgmill", "handlers", "--json"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and '"name": "mine"' in done.stdout, done.stderr
