# SPDX-License-Identifier: MIT
"""A throwaway PostgreSQL cluster with fresh, migrated databases; contrib/cluster does the work."""

import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile

import psycopg

CONTRIB = pathlib.Path(__file__).resolve().parents[2] / "contrib"


def unprivileged_user() -> str:
    """PostgreSQL does not run as root."""
    return os.environ.get("PGMILL_USER", "nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name


class Cluster:
    def __init__(self, pgmill: str) -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="pgm-", dir="/tmp"))
        self.user = unprivileged_user()
        if os.geteuid() == 0:
            shutil.chown(self.folder, self.user)
        self.pgmill = pgmill
        self.count = 0
        self.start()
        self.template = self.create("template1")
        subprocess.run([pgmill, "migrate", "--database", self.template], check=True, stdout=subprocess.DEVNULL)

    def _run(self, *arguments: str) -> str:
        environment = os.environ | {"PGMILL_USER": self.user}
        command = [str(CONTRIB / "cluster"), *arguments]
        return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    def start(self) -> None:
        self._run("--fast", "start", str(self.folder))

    def stop(self) -> None:
        self._run("stop", str(self.folder))

    def crash(self) -> None:
        """The server ends as by a power cut; what was not flushed is gone."""
        pid = int(next(self.folder.rglob("postmaster.pid")).read_text().split()[0])
        subprocess.run(["/bin/kill", "-QUIT", str(pid)], check=True)
        while pathlib.Path(f"/proc/{pid}").exists():
            os.sched_yield()

    def url(self, database: str) -> str:
        return self._run("url", str(self.folder), "postgres").replace("/pgmill?", f"/{database}?")

    def create(self, template: str) -> str:
        self.count += 1
        name = f"t{self.count}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as db:
            db.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def fresh(self) -> str:
        return self.create("t1")

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder)
