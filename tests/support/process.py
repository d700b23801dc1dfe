# SPDX-License-Identifier: MIT
"""The real executable as a service: sockets passed in, a notification socket, its log, and a clean end."""

import contextlib
import ctypes
import os
import pathlib
import selectors
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
REPORTS = ("ERROR: AddressSanitizer", "runtime error:", "ERROR: LeakSanitizer")
PR_SET_CHILD_SUBREAPER = 36


def alive(pid: str | int) -> bool:
    """Runs, and is not just waiting to be reaped."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def adopt_orphans() -> None:
    """From now on, what a process of ours leaves behind becomes our child, so that it can be found."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "prctl")


def orphans(end: bool = False) -> list[str]:
    """Names of adopted processes that still run, the database servers apart; the ended ones are reaped."""
    found = []
    for pid in map(int, pathlib.Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()):
        with contextlib.suppress(ChildProcessError, FileNotFoundError):
            if os.waitpid(pid, os.WNOHANG) != (0, 0):
                continue
            name = pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
            if name != "postgres":
                found.append(name)
                if end:
                    os.kill(pid, signal.SIGKILL)
    return found


def eventually(look: Callable[[], T], within: float = 15) -> T:
    """Looks until what is found is true; for what gives no event to wait for."""
    deadline = time.monotonic() + within
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {within} s: {look}"
        time.sleep(0.02)
    return found


class Process:
    def __init__(self, command: list[str], folder: pathlib.Path, sockets: list[socket.socket] | None = None,
                 watchdog: float = 0, environment: dict[str, str] | None = None,
                 before: list[str] | None = None) -> None:
        """before: a command that executes the one it is given, in some other surroundings."""
        command = [*(before or []), *command]
        self.messages: list[str] = []
        self.log = ""
        temporary = folder / "tmp"  # what a killed worker leaves goes with the test
        temporary.mkdir(exist_ok=True)
        path = folder / f"notify-{len(list(folder.iterdir()))}"
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(path))
        self.notify.setblocking(False)
        self.sockets = sockets or []
        variables = os.environ | {"NOTIFY_SOCKET": str(path), "TMPDIR": str(temporary)} | (environment or {})
        for name in ("LISTEN_FDS", "LISTEN_PID", "WATCHDOG_PID", "PGMILL_DATABASE", "PGMILL_TASKS"):
            variables.pop(name, None)
        if watchdog:
            variables["WATCHDOG_USEC"] = str(int(watchdog * 1e6))
        inherited = [listener.fileno() for listener in self.sockets]
        if self.sockets:
            variables["LISTEN_FDS"] = str(len(self.sockets))
            # The protocol wants them as descriptors 3, 4 … and the process's own number, which bash knows.
            moves = " ".join(f"{to}<&{fd} {fd}<&-" for to, fd in enumerate(inherited, start=3))
            command = ["/bin/bash", "-c", f'exec {moves}; LISTEN_PID=$$ exec "$@"', "bash", *command]
        self.popen = subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                                      pass_fds=inherited, start_new_session=True)
        self.changed = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        """Reads all the time, as a service manager and a journal do: a full queue would hold the service up."""
        assert self.popen.stderr
        selector = selectors.DefaultSelector()
        selector.register(self.popen.stderr, selectors.EVENT_READ)
        selector.register(self.notify, selectors.EVENT_READ)
        log = b"more"
        while log:
            ready = [key.fileobj for key, _ in selector.select()]
            log = os.read(self.popen.stderr.fileno(), 65536) if self.popen.stderr in ready else b"more"
            with self.changed:
                if self.popen.stderr in ready:
                    self.log += log.decode(errors="replace")
                # Whatever was sent before what the log said; and all of it, when that has ended.
                with contextlib.suppress(BlockingIOError):
                    while True:
                        self.messages += self.notify.recv(65536).decode(errors="replace").splitlines()
                self.changed.notify_all()

    def wait_for(self, found: Callable[[], bool], what: str, within: float = 20) -> None:
        with self.changed:
            said = self.changed.wait_for(lambda: found() or not self.reader.is_alive(), within) and found()
        assert said, f"no {what}; exit status {self.popen.poll()}, messages {self.messages}, log:\n{self.log}"

    def wait_message(self, message: str, within: float = 20) -> None:
        self.wait_for(lambda: any(message in m for m in self.messages), f"notification {message}", within)

    def wait_log(self, text: str, within: float = 20) -> None:
        self.wait_for(lambda: text in self.log, f"log line {text!r}", within)

    def ready(self) -> "Process":
        self.wait_message("READY=1")
        return self

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def wait(self, within: float = 30) -> int:
        """Its exit status."""
        try:
            self.popen.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end; log:\n{self.log}") from None
        self.reader.join(2)  # a program it left behind may hold its log open
        return self.popen.returncode

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.wait()

    def _unborn(self) -> bool:
        """SIGTERM has ended it before it got as far as asking for signals; it was never ready."""
        return self.popen.returncode == -signal.SIGTERM and not self.messages

    def _leaves(self) -> bool:
        """Waits until it says so; false: it has ended unborn."""
        def said() -> bool:
            return any("STOPPING" in message for message in self.messages)

        with self.changed:
            self.changed.wait_for(lambda: said() or not self.reader.is_alive(), 20)
        if not said():
            status = self.wait()
            assert self._unborn(), f"no notification STOPPING; exit status {status}, messages {self.messages}, log:\n{self.log}"
        return said()

    def _hurry(self) -> None:
        """Ends it without waiting for what it runs: the first SIGTERM drains, the second one cuts short."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        if not self._leaves():
            return
        self.signal(signal.SIGTERM)
        # 75: it could not give its tasks back, the database being away.
        assert self.wait() in (0, os.EX_TEMPFAIL), f"exit status {self.popen.returncode}; log:\n{self.log}"

    def close(self) -> None:
        try:
            if self.popen.poll() is None:
                self._hurry()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.popen.pid, signal.SIGKILL)
            self.popen.wait()
            self.reader.join(2)
            self.notify.close()
            for listener in self.sockets:
                listener.close()
        assert not any(report in self.log for report in REPORTS), self.log
        assert self.popen.returncode in (*range(0, 128), -signal.SIGKILL) or self._unborn(), f"it crashed; log:\n{self.log}"
