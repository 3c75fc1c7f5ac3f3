"""A network of a run's own: a bridge, and for each host a namespace with one cable to it."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Network:
    """198.19.RUN.0/24, of the block for tests between networks: reachable from this machine and nowhere else."""

    def __init__(self, run: int) -> None:
        self._run = run
        self._bridge = f"tf{run}"
        self.clear()
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("address", "add", f"{self.gateway}/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")

    @property
    def gateway(self) -> str:
        """This machine's address in it."""
        return f"198.19.{self._run}.1"

    def clear(self) -> None:
        """Remove bridge, namespaces and cables, also those that an earlier run left behind."""
        for name in _ip("netns", "list").split():
            if name.startswith(f"{self._bridge}h"):
                _ip("netns", "delete", name)
        for link in json.loads(_ip("-json", "link", "show")):
            if link["ifname"] == self._bridge or link["ifname"].startswith(f"{self._bridge}h"):
                with contextlib.suppress(subprocess.CalledProcessError):  # gone with its namespace
                    _ip("link", "delete", link["ifname"])

    def join(self, number: int) -> Cable:
        """A namespace with the address of host `number`."""
        name = f"{self._bridge}h{number}"
        cable = Cable(name, f"198.19.{self._run}.{number + 10}")
        _ip("netns", "add", name)
        _ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", name, "master", self._bridge, "up")
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "address", "add", f"{cable.address}/24", "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "up")
        _ip("-n", name, "route", "add", "default", "via", self.gateway)
        return cable


class Cable:
    """A host's way to the network. Its namespace stays while the host is off."""

    def __init__(self, name: str, address: str) -> None:
        self.address = address
        self.namespace = Path("/run/netns", name)
        self._name = name

    def pull(self) -> None:
        """Nothing comes or goes any more, and nobody is told."""
        _ip("link", "set", self._name, "down")

    def plug(self) -> None:
        """As before."""
        _ip("link", "set", self._name, "up")

    def connect(self, port: int) -> socket.socket:
        """A connection to a port of the host's loopback."""
        return self._inside(lambda: socket.create_connection(("127.0.0.1", port), timeout=5.0))

    def _inside(self, act: Callable[[], T]) -> T:
        """Do something in the namespace: a thread that has entered it makes sockets that stay there."""
        done: list[T] = []
        failed: list[OSError] = []

        def enter_and_act() -> None:
            descriptor = os.open(self.namespace, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
                done.append(act())
            except OSError as error:
                failed.append(error)
            finally:
                os.close(descriptor)

        thread = threading.Thread(target=enter_and_act)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return done[0]


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout
