"""A port of this machine that leads to a port of a host's loopback, also after the host was off."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType

from tests.hosts.network import Cable

_BLOCK_BYTES = 65_536


class Relay:
    """Forwards each connection; one that finds nobody there is closed again."""

    def __init__(self, cable: Cable, port: int) -> None:
        self._cable = cable
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        _end(self._listener)
        self._threads[0].join()
        for each in self._open:
            _end(each)
        for thread in self._threads:
            thread.join()
        for each in (self._listener, *self._open):
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                try:
                    far = self._cable.connect(self._target)
                except OSError:
                    near.close()
                    continue
                far.settimeout(None)
                for origin, target in ((near, far), (far, near)):
                    origin.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._open.append(origin)
                    self._threads.append(threading.Thread(target=_carry, args=(origin, target)))
                    self._threads[-1].start()


def _carry(origin: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := origin.recv(_BLOCK_BYTES):
            target.sendall(data)
    _end(target)
    _end(origin)


def _end(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
