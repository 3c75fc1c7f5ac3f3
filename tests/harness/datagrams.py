"""Sockets in the place of systemd's: the one its journal reads, and the one on which services say how they are."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from tests.harness.waiting import PATIENCE_S, eventually

Record = dict[str, str]


class JournalSocket:
    """Reads records as the journal does, by its protocol."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = listen(path)

    def read(self) -> Record:
        """The next record; it must be there soon."""
        self._socket.settimeout(PATIENCE_S)
        data, passed, _, _ = socket.recv_fds(self._socket, 1 << 20, 1)
        for fd in passed:
            with os.fdopen(fd, "rb") as file:
                file.seek(0)
                data = file.read()
        return parsed(data)

    def read_all(self) -> list[Record]:
        """All records that are there now."""
        records = []
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                records.append(parsed(self._socket.recv(1 << 20)))
        return records

    def close(self) -> None:
        """Go away, as a journal does that is stopped."""
        self._socket.close()
        self.path.unlink()


class NotifySocket:
    """Reads what a service says to systemd. `seen` is all of it, as lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen: list[str] = []
        self._socket = listen(path)
        self._socket.setblocking(False)

    def lines(self, since: int = 0) -> list[str]:
        """All lines that have come by now."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.seen += self._socket.recv(65_536).decode().split("\n")
        return self.seen[since:]

    def wait(self, start: str, since: int = 0) -> str:
        """The first line that starts so, as soon as it has come."""
        found = eventually(lambda: [line for line in self.lines(since) if line.startswith(start)], f"systemd: {start}")
        return found[0]

    def mark(self) -> int:
        """How many lines there are, to look only at later ones."""
        return len(self.lines())

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


def listen(path: Path) -> socket.socket:
    """A socket for datagrams that every account may write to."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(str(path))
    path.chmod(0o777)
    return listening


def parsed(data: bytes) -> Record:
    """A record's fields; the protocol writes a value with several lines behind its length."""
    return dict(_fields(data))


def _fields(data: bytes) -> Iterator[tuple[str, str]]:
    while data:
        line, _, data = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack_from("<Q", data)
            value, data = data[8 : 8 + length], data[8 + length :]
            assert data.startswith(b"\n"), f"the length of {name!r} is not true"
            data = data[1:]
        yield name.decode(), value.decode()


def stream_of(fd: int) -> str:
    """What JOURNAL_STREAM says of a descriptor that leads to the journal."""
    status = os.fstat(fd)
    return f"{status.st_dev}:{status.st_ino}"
