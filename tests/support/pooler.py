# SPDX-License-Identifier: MIT
"""PgBouncer before a database, in transaction mode, as Debian ships it."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
from collections.abc import Iterator

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from .cluster import unprivileged_user
from .process import eventually

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")

CONFIGURATION = """[databases]
* = host={host} port={port} user={user}
[pgbouncer]
pool_mode = transaction
listen_addr =
listen_port = 6543
unix_socket_dir = {folder}
auth_type = any
ignore_startup_parameters = extra_float_digits
"""


@contextlib.contextmanager
def pooler(url: str, folder: pathlib.Path) -> Iterator[str]:
    """The address that leads to the database through it."""
    assert PGBOUNCER, "pgbouncer is missing: contrib/deps test"
    there = conninfo_to_dict(url)
    home = folder / "pooler"
    home.mkdir()
    file = home / "pgbouncer.ini"
    file.write_text(CONFIGURATION.format(host=there["host"], port=there.get("port", 5432), user=there["user"],
                                         folder=home))
    if os.geteuid() == 0:
        folder.chmod(0o755)
        shutil.chown(home, unprivileged_user())
    user = {"user": unprivileged_user(), "extra_groups": []} if os.geteuid() == 0 else {}
    process = subprocess.Popen([PGBOUNCER, "--quiet", str(file)], **user)  # type: ignore[call-overload]
    try:
        path = home / ".s.PGSQL.6543"
        eventually(path.exists)
        yield make_conninfo(url, host=str(home), port=6543)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
