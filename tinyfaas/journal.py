"""Speaks to systemd's journal in its own protocol: one datagram for each record, with fields one can ask for.

The packages that know the protocol wait for the journal when it is slow, raise when it is away, and want Python's own
`logging` around them; a C library would have to be there on every Pi. The protocol is the forty lines below, and what
to do while the journal takes nothing is the rest.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import socket
import struct
import threading
from collections import deque
from pathlib import Path
from typing import Any

from tinyfaas.events import event_of, sentence

SOCKET = Path("/run/systemd/journal/socket")
MOST_WAITING_BYTES = 1_048_576  # held while the journal is away or busy; later records are dropped
_SEND_BUFFER_BYTES = 1_048_576
_LENGTH = struct.Struct("<Q")
_TOO_LARGE = (errno.EMSGSIZE, errno.ENOBUFS)
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
_HEAD = {
    level: b"PRIORITY=%d\nSYSLOG_IDENTIFIER=tinyfaas\n" % priority
    for level, priority in {"debug": 7, "info": 6, "warning": 4, "error": 3}.items()
}
# Field names are made once for each key. What is told in MESSAGE or PRIORITY has none.
_NAMES: dict[str, bytes] = {
    "level": b"", "line": b"", "exception": b"", "code_file": b"CODE_FILE", "code_line": b"CODE_LINE",
}  # fmt: skip


def under_systemd(stderr: int, environ: dict[str, str] | os._Environ[str]) -> bool:
    """Whether what is written to this descriptor ends in the journal."""
    try:
        status = os.fstat(stderr)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def render(level: str, fields: dict[str, Any]) -> bytes:
    """A record as the journal's datagram. Fields of ours begin with `TINYFAAS_`."""
    event = event_of(fields)
    text = sentence(event, fields)
    if "exception" in fields:
        text = f"{text}\n{fields['exception']}"
    parts = [_HEAD[level], _field(b"MESSAGE", text)]
    if event.message_id:
        parts.append(b"MESSAGE_ID=%s\n" % event.message_id.encode())
    for key, value in fields.items():
        name = _NAMES.get(key)
        if name is None:
            name = _NAMES[key] = b"TINYFAAS_" + key.upper().encode()
        if name and value is not None:
            if type(value) is dict:  # a function's own fields; their names are its own too, and as many as it likes
                parts += [_field(b"FIELD_" + own.upper().encode(), _plain(each)) for own, each in value.items()]
            else:
                parts.append(_field(name, value if type(value) is str else _plain(value)))
    return b"".join(parts)


def _field(name: bytes, text: str) -> bytes:
    value = text.encode("utf-8", "backslashreplace")  # JSON can bring half a surrogate pair
    if b"\n" in value:
        return b"%s\n%s%s\n" % (name, _LENGTH.pack(len(value)), value)
    return b"%s=%s\n" % (name, value)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


class Journal:
    """Never waits and never raises. What the journal does not take is held, within a bound, and then dropped."""

    def __init__(self, path: Path = SOCKET) -> None:
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        self._sending = threading.Lock()
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._dropped = 0

    def write(self, record: bytes) -> None:
        """Send a datagram, after those that wait."""
        with self._sending:
            self._send_waiting()
            if not self._waiting and self._sent(record):
                return
            if self._waiting_bytes + len(record) > MOST_WAITING_BYTES:
                self._dropped += 1
                return
            self._waiting.append(record)
            self._waiting_bytes += len(record)

    def flush(self) -> int:
        """Send what waits, as far as the journal takes it; returns how many were dropped, once it is back."""
        with self._sending:
            self._send_waiting()
            if self._waiting:
                return 0
            dropped, self._dropped = self._dropped, 0
            return dropped

    def close(self) -> None:
        """Send what can be sent, and no more."""
        self.flush()
        self._socket.close()

    def _send_waiting(self) -> None:
        while self._waiting and self._sent(self._waiting[0]):
            self._waiting_bytes -= len(self._waiting.popleft())

    def _sent(self, record: bytes) -> bool:
        """Whether that is done with; False if the journal takes nothing now."""
        try:
            # To the path each time: a journal that was restarted is found again.
            self._socket.sendto(record, self._path)
        except OSError as error:
            return error.errno in _TOO_LARGE and self._sent_as_file(record)
        return True

    def _sent_as_file(self, record: bytes) -> bool:
        """Send what is too large for a datagram as a file in memory, sealed so that the journal may trust it."""
        try:
            file = os.memfd_create("tinyfaas-record", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        except OSError:
            self._dropped += 1
            return True
        try:
            with open(file, "wb", buffering=0, closefd=False) as writing:
                writing.write(record)
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
            passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file]))]
            self._socket.sendmsg([], passed, 0, self._path)
        except OSError as error:
            if error.errno in _TOO_LARGE:  # not even that: it would stand before all others for ever
                self._dropped += 1
                return True
            return False
        finally:
            os.close(file)
        return True
