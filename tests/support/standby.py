# SPDX-License-Identifier: MIT
"""A synchronous standby of a throwaway cluster, to be promoted when its primary is gone."""

import os
import pathlib
import shutil
import subprocess
import tempfile

from .cluster import Cluster, place
from .process import eventually


class Standby(Cluster):
    """Has every commit that the primary acknowledges, from the end of this constructor on."""

    def __init__(self, primary: Cluster) -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="pgm-", dir=place()))
        self.pgmill, self.user, self.count, self.spent = primary.pgmill, primary.user, primary.count, []
        if os.geteuid() == 0:
            shutil.chown(self.folder, self.user)
        with (primary.folder / "data/pg_hba.conf").open("a") as rules:
            rules.write("local replication all trust\n")
        primary.admin.execute("SELECT pg_reload_conf()")
        binaries = primary.admin.execute("SELECT setting FROM pg_config() WHERE name = 'BINDIR'").fetchone()[0]
        user = {"user": self.user, "extra_groups": []} if os.geteuid() == 0 else {}
        subprocess.run([f"{binaries}/pg_basebackup", "--pgdata", str(self.folder / "data"), "--write-recovery-conf", "--no-sync",
                        "--checkpoint=fast", "--dbname", primary.url("postgres")],
                       check=True, cwd="/", umask=0o077, **user)  # type: ignore[call-overload]
        self.start()
        primary.configure(synchronous_standby_names="*")
        eventually(lambda: primary.admin.execute(
            "SELECT true FROM pg_stat_replication WHERE sync_state = 'sync' AND state = 'streaming'").fetchone())

    def lag(self, primary: Cluster) -> None:
        """From now on the primary acknowledges what has not arrived here."""
        primary.configure(synchronous_standby_names="")
        self.configure(primary_conninfo="")

    def promote(self) -> None:
        """The primary is gone. What waits for a standby of this one would wait for ever."""
        self.admin.execute("SELECT pg_promote()")
        eventually(lambda: self.admin.execute("SELECT NOT pg_is_in_recovery()").fetchone()[0])
        self.configure(synchronous_standby_names="")
