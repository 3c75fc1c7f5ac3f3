"""A socket with room on both sides: paho reads a packet in three bites and writes each by itself.

Each of those would be a system call, and each lets another thread have the interpreter; both cost more than the packet.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Any

from tinyfaas.gateway.packets import whole

_READ_BYTES = 65_536
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Stream:
    """Stands for a connected socket in paho's hands; whoever had something written must `flush`."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._read = b""
        self._at = self._packet_at = 0
        self._unsent = bytearray()

    def recv(self, count: int) -> bytes:
        """As a socket's, from what was read before as long as there is any."""
        if self._at == len(self._read):
            self._read, self._at = self._socket.recv(_READ_BYTES), 0
        begin = self._at
        self._at = min(begin + count, len(self._read))
        return self._read[begin : self._at]

    def packet(self) -> tuple[int, bytes] | None:
        """The first byte and the body of the next packet; None if it is not all here, or `recv` has begun with it.

        Raises `BlockingIOError` if there is nothing at all, and `OSError` as a socket does.
        """
        if self._at == len(self._read):
            try:
                self._read, self._at = self._socket.recv(_READ_BYTES), 0
            except _NOT_NOW as error:
                raise BlockingIOError from error
        found = whole(self._read, self._at)
        if found is None:
            return None
        self._packet_at, self._at = self._at, found[1]
        return self._read[self._packet_at], self._read[found[0] : found[1]]

    def put_back(self) -> None:
        """Let the packet that came last come again."""
        self._at = self._packet_at

    def send(self, data: bytes | bytearray) -> int:
        """Take all of it."""
        self._unsent += data
        return len(data)

    def flush(self) -> None:
        """Write what was sent, as far as the socket takes it now. Raises `OSError` when the connection is lost."""
        while self._unsent:
            try:
                written = self._socket.send(self._unsent)
            except _NOT_NOW:
                return
            del self._unsent[:written]

    @property
    def unsent(self) -> bool:
        """Whether something waits to be written."""
        return bool(self._unsent)

    def pending(self) -> int:
        """Bytes that were read and that select can't see."""
        return len(self._read) - self._at + getattr(self._socket, "pending", int)()

    def close(self) -> None:
        """Close, after a last attempt to write."""
        with contextlib.suppress(OSError):
            self.flush()
        self._socket.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)
