# SPDX-License-Identifier: MIT
"""The real executable as a service: sockets passed in, a notification socket, its log, and a clean end."""

import contextlib
import os
import pathlib
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
REPORTS = ("ERROR: AddressSanitizer", "runtime error:", "ERROR: LeakSanitizer")


def eventually(look: Callable[[], T], within: float = 15) -> T:
    """Looks until what is found is true; for what gives no event to wait for."""
    deadline = time.monotonic() + within
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {within} s: {look}"
        time.sleep(0.02)
    return found


class Process:
    def __init__(self, command: list[str], folder: pathlib.Path, sockets: list[socket.socket] | None = None,
                 watchdog: float = 0, environment: dict[str, str] | None = None) -> None:
        self.messages: list[str] = []
        self.log = ""
        path = folder / f"notify-{len(list(folder.iterdir()))}"
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(path))
        self.sockets = sockets or []
        variables = os.environ | {"NOTIFY_SOCKET": str(path)} | (environment or {})
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
        assert self.popen.stderr
        os.set_blocking(self.popen.stderr.fileno(), False)
        self.notify.setblocking(False)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.popen.stderr, selectors.EVENT_READ)
        self.selector.register(self.notify, selectors.EVENT_READ)

    def pump(self, wait: float = 0) -> None:
        for key, _ in self.selector.select(wait):
            if key.fileobj is self.notify:
                self.messages += self.notify.recv(4096).decode().splitlines()
            else:
                data = os.read(key.fd, 65536).decode(errors="replace")
                if not data:
                    self.selector.unregister(key.fileobj)
                self.log += data

    def wait_for(self, found: Callable[[], bool], what: str, within: float = 20) -> None:
        deadline = time.monotonic() + within
        while not found():
            remaining = deadline - time.monotonic()
            if remaining <= 0 or (self.popen.poll() is not None and not self.selector.select(0)):
                assert found(), f"no {what}; messages {self.messages}, log:\n{self.log}"
            self.pump(min(remaining, 0.5))

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
        """Its exit status. Reads to the end of its log, so that it never waits for us."""
        deadline = time.monotonic() + within
        while self.popen.poll() is None:
            assert time.monotonic() < deadline, f"it does not end; log:\n{self.log}"
            self.pump(0.05)
        while self.selector.select(0) and len(self.selector.get_map()) > 1:
            self.pump()
        return self.popen.returncode

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.wait()

    def close(self) -> None:
        if self.popen.poll() is None:
            with contextlib.suppress(AssertionError):
                self.signal(signal.SIGCONT)
                self.stop()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()
        self.pump()
        self.notify.close()
        assert not any(report in self.log for report in REPORTS), self.log
