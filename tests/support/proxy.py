# SPDX-License-Identifier: MIT
"""A wire between a client and PostgreSQL that a test can hold, cut or let go mute, message by message
(https://www.postgresql.org/docs/17/protocol-message-formats.html)."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable

from psycopg.conninfo import conninfo_to_dict, make_conninfo

CLIENT, SERVER = "client", "server"  # who sends
Match = Callable[[str, bytes], bool]  # type of a message ("" for the start-up packet) and its body


class Trap:
    """The first message that matches stands still, with all that its sender sends after it, until let go or cut."""

    def __init__(self, sender: str, match: Match) -> None:
        self.sender, self.match = sender, match
        self.link: Link | None = None
        self.caught, self.free, self.passed = threading.Event(), threading.Event(), threading.Event()

    def wait(self, within: float = 20) -> "Trap":
        assert self.caught.wait(within), f"no such message of the {self.sender} within {within} s"
        return self

    def release(self) -> None:
        self.free.set()

    def cut(self) -> None:
        """Both ends see the connection close; the message is lost."""
        assert self.link
        self.link.cut()
        self.free.set()


class Link:
    """One connection through the wire."""

    def __init__(self, proxy: "Proxy", client: socket.socket) -> None:
        self.proxy, self.client = proxy, client
        self.server = proxy._dial()
        self.open = threading.Event()  # not mute
        self.open.set()
        for sender, source, sink in ((CLIENT, client, self.server), (SERVER, self.server, client)):
            threading.Thread(target=self._pump, args=(sender, source, sink), daemon=True).start()

    def cut(self) -> None:
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self.open.set()

    def mute(self) -> None:
        """Neither end hears of the other again, nor of an end of the connection."""
        self.open.clear()

    def _pump(self, sender: str, source: socket.socket, sink: socket.socket) -> None:
        reader = source.makefile("rb")
        typed = sender == SERVER
        with contextlib.suppress(OSError, ValueError):
            while header := reader.read(5 if typed else 4):
                kind = header[:1].decode("latin-1") if typed else ""
                length = struct.unpack("!I", header[-4:])[0] - 4
                body = reader.read(length)
                typed = True
                trap = self.proxy._caught(self, sender, kind, body)
                if trap:
                    trap.free.wait()
                self.open.wait()
                if sender == SERVER and self.proxy.lost(kind, body):
                    continue
                sink.sendall(header + body)
                if trap:
                    trap.passed.set()
        self.open.wait()
        if sender == SERVER:
            self.cut()
        else:  # what the server has said is still on its way
            with contextlib.suppress(OSError):
                self.server.shutdown(socket.SHUT_WR)


class Proxy:
    """proxy.url leads to the database through it. New connections are served whatever became of the others."""

    def __init__(self, url: str) -> None:
        self.lead_to(url)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = make_conninfo(url, host="127.0.0.1", port=self.listener.getsockname()[1], sslmode="disable",
                                 gssencmode="disable")
        self.lock = threading.Lock()
        self.links: list[Link] = []
        self.traps: list[Trap] = []
        self.lost: Match = lambda kind, body: False  # messages of the server that do not arrive
        threading.Thread(target=self._accept, daemon=True).start()

    def lead_to(self, url: str) -> None:
        """Where new connections go."""
        there = conninfo_to_dict(url)
        self.target = f"{there['host']}/.s.PGSQL.{there.get('port', 5432)}"

    def trap(self, sender: str, match: Match) -> Trap:
        with self.lock:
            self.traps.append(trap := Trap(sender, match))
        return trap

    def mute(self) -> None:
        """All connections that there are."""
        for link in self.links:
            link.mute()

    def cut(self) -> None:
        for link in self.links:
            link.cut()

    def close(self) -> None:
        self.listener.close()
        for trap in self.traps:
            trap.free.set()
        self.cut()

    def _dial(self) -> socket.socket:
        server = socket.socket(socket.AF_UNIX)
        server.connect(self.target)
        return server

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                try:
                    self.links.append(Link(self, client))
                except OSError:  # the server is away
                    client.close()

    def _caught(self, link: Link, sender: str, kind: str, body: bytes) -> Trap | None:
        with self.lock:
            for trap in self.traps:
                if trap.sender == sender and not trap.caught.is_set() and trap.match(kind, body):
                    trap.link = link
                    trap.caught.set()
                    return trap
        return None
