"""A way to the broker that can go silent: bytes are swallowed in both directions, and nothing is closed."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType

_BLOCK_BYTES = 65_536


class Proxy:
    """Forwards to a port of loopback. Connections made after `silence` work, or only those made after `heal`."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._pairs: list[_Pair] = []
        self._cut = False
        self._changing = threading.Lock()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        with self._changing:
            for pair in self._pairs:
                pair.close()

    def silence(self, *, until_healed: bool = False) -> int:
        """Swallow what all present connections send from now on; returns how many there are.

        `until_healed`: also what those send that are made before it is healed.
        """
        with self._changing:
            self._cut = until_healed
            alive = [pair for pair in self._pairs if not pair.ended]
            for pair in alive:
                pair.silent = True
            return len(alive)

    def heal(self) -> None:
        """Let new connections work."""
        with self._changing:
            self._cut = False

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                near.close()
                continue
            with self._changing:
                self._pairs.append(_Pair(near, far, silent=self._cut))


class _Pair:
    """One connection, and the one behind it."""

    def __init__(self, near: socket.socket, far: socket.socket, *, silent: bool) -> None:
        self.silent = silent
        self.ended = False
        self._sockets = (near, far)
        self._threads = [
            threading.Thread(target=self._carry, args=way, daemon=True) for way in ((near, far), (far, near))
        ]
        for each in self._sockets:
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End both sides."""
        self.silent = False
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()

    def _carry(self, origin: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := origin.recv(_BLOCK_BYTES):
                if not self.silent:
                    target.sendall(data)
        self.ended = True
        if not self.silent:
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_RDWR)
