# SPDX-License-Identifier: MIT
"""A throwaway PostgreSQL cluster with fresh, migrated databases; contrib/cluster does the work."""

import contextlib
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator

import psycopg
from psycopg import sql

from .process import alive, eventually

CONTRIB = pathlib.Path(__file__).resolve().parents[2] / "contrib"


def unprivileged_user() -> str:
    """PostgreSQL does not run as root."""
    return os.environ.get("PGMILL_USER", "nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name


def place() -> str:
    """A thousand databases are made and thrown away: in memory, where there is enough."""
    with contextlib.suppress(OSError):
        memory = os.statvfs("/dev/shm")
        if memory.f_bavail * memory.f_frsize > 2 << 30:
            return "/dev/shm"
    return "/tmp"


class Cluster:
    def __init__(self, pgmill: str) -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="pgm-", dir=place()))
        self.user = unprivileged_user()
        if os.geteuid() == 0:
            shutil.chown(self.folder, self.user)
        self.pgmill = pgmill
        self.count = 0
        self.spent: list[str] = []  # databases that nobody needs any more
        self.start()
        self.template = self.create("template1")
        subprocess.run([pgmill, "migrate", "--database", self.template], check=True, stdout=subprocess.DEVNULL)

    def _run(self, *arguments: str) -> str:
        environment = os.environ | {"PGMILL_USER": self.user}
        command = [str(CONTRIB / "cluster"), *arguments]
        return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    def start(self) -> None:
        self._run("--fast", "start", str(self.folder))
        self.stem = self._run("url", str(self.folder), "postgres")
        self.admin = psycopg.connect(self.url("postgres"), autocommit=True)

    def configure(self, **settings: str) -> None:
        """Of the server; without a restart."""
        for name, value in settings.items():
            self.admin.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), value))
        self.admin.execute("SELECT pg_reload_conf()")

    def stop(self) -> None:
        self.admin.close()
        self._run("stop", str(self.folder))

    def _server(self) -> int | None:
        """The number in the file may be another's by now; only the server works in that folder."""
        data = self.folder / "data"
        with contextlib.suppress(FileNotFoundError):
            pid = int((data / "postmaster.pid").read_text().split()[0])
            return pid if os.readlink(f"/proc/{pid}/cwd") == str(data) else None
        return None

    def crash(self, number: signal.Signals = signal.SIGQUIT) -> None:
        """The server ends without a shutdown (SIGQUIT: "immediate"); what was not written is gone."""
        pid = self._server()
        assert pid
        os.kill(pid, number)
        eventually(lambda: not alive(pid))
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)  # adopted

    def url(self, database: str) -> str:
        return self.stem.replace("/pgmill?", f"/{database}?")

    def create(self, template: str) -> str:
        self.count += 1
        name = f"t{self.count}"
        while self.spent:
            self.admin.execute(f"DROP DATABASE {self.spent.pop()} WITH (FORCE)")
        self.admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return self.url(name)

    @contextlib.contextmanager
    def lent(self) -> Iterator[str]:
        """A fresh database, dropped some time after."""
        url = self.fresh()
        name = f"t{self.count}"
        yield url
        self.spent.append(name)

    def fresh(self) -> str:
        return self.create("t1")

    def remove(self) -> None:
        self.admin.close()
        if self._server():
            self.crash()
        shutil.rmtree(self.folder)
