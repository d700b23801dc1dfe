# SPDX-License-Identifier: MIT
"""A network of its own, where addresses beyond loopback reach nobody else."""

import concurrent.futures
import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Callable
from typing import TypeVar

import pytest

T = TypeVar("T")
CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFNETMASK = 0x8914, 0x8916, 0x891C
IFF_UP = 1


class Network:
    """192.0.2.0/24 on its loopback interface. A socket stays in the network where it was made, whoever uses it."""

    def __init__(self) -> None:
        self.thread = concurrent.futures.ThreadPoolExecutor(1)
        self.run(self._enter)

    def run(self, call: Callable[..., T], *arguments: object) -> T:
        return self.thread.submit(call, *arguments).result()

    def close(self) -> None:
        self.thread.shutdown()

    @staticmethod
    def _enter() -> None:
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) < 0:
            if ctypes.get_errno() == errno.EPERM:
                pytest.skip("only root can make a network")
            raise OSError(ctypes.get_errno(), "unshare")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            for request, address in ((SIOCSIFADDR, "192.0.2.1"), (SIOCSIFNETMASK, "255.255.255.0")):
                fcntl.ioctl(s, request, struct.pack("16sHH4s8x", b"lo", socket.AF_INET, 0, socket.inet_aton(address)))
            fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))

    def listen(self, host: str = "192.0.2.1") -> socket.socket:
        return self.run(lambda: socket.create_server((host, 0), backlog=1024))

    def connect(self, to: socket.socket, source: str) -> socket.socket:
        return self.run(lambda: socket.create_connection(to.getsockname(), 20, (source, 0)))
