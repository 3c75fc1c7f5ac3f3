"""What a function prints, turned into log records line by line: bounded for each call, and over time for a function."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from tinyfaas import log, tap
from tinyfaas.allowance import Allowance
from tinyfaas.fields import SECRET_MASK

logger = log.get("function")

LONGEST_LINE = 4_096
_CHUNK = 65_536
_MASK = SECRET_MASK.encode()
_RECORD_BYTES = 100  # what a line costs besides its own bytes: an empty one is a record too
_SAY_AGAIN_S = 10.0


class _Meter:
    """What one function may still print, whichever of its workers does, and what of it was not shown."""

    def __init__(self, per_s: float) -> None:
        self.allowance = Allowance(per_s)
        self._dropped = 0
        self._said_s = -_SAY_AGAIN_S
        self._adding = threading.Lock()

    def drop(self, count: int, fields: dict[str, Any]) -> None:
        """Count bytes that are not shown, and say so unless that was said a moment ago."""
        with self._adding:
            self._dropped += count
            count = self._due()
        if count:
            logger.warning("function_output_dropped", bytes=count, **fields)

    def settle(self, function: str) -> bool:
        """Say what was left to say; whether this meter has nothing more to remember."""
        with self._adding:
            count = self._due()
        if count:
            logger.warning("function_output_dropped", bytes=count, function=function)
        return not self._dropped and self.allowance.untouched()

    def _due(self) -> int:
        """How many bytes are to be said now."""
        now_s = time.monotonic()
        if not self._dropped or now_s - self._said_s < _SAY_AGAIN_S:
            return 0
        count, self._dropped, self._said_s = self._dropped, 0, now_s
        return count


class _Meters:
    """The meters of all functions that have printed lately."""

    def __init__(self) -> None:
        self._per_s = 16_384.0
        self._meters: dict[str, _Meter] = {}
        self._changing = threading.Lock()

    def of(self, function: str) -> _Meter:
        """The meter of one function."""
        with self._changing:
            return self._meters.get(function) or self._meters.setdefault(function, _Meter(self._per_s))

    def limit(self, per_s: float) -> None:
        """Let each function print so much a second from now on."""
        with self._changing:
            self._per_s = per_s
            for meter in self._meters.values():
                meter.allowance.per_s = per_s

    def tidy(self) -> None:
        """Say what was dropped since it was last said, and forget the meters that are as good as new."""
        with self._changing:
            for function, meter in list(self._meters.items()):
                if meter.settle(function):
                    del self._meters[function]


# One for the whole server, as the log is: a function's workers come and go, and share what it may print.
_meters = _Meters()
limit = _meters.limit
tidy = _meters.tidy


class Output:
    """The pipes of one worker's stdout and stderr. What comes between two calls belongs to the one before."""

    def __init__(
        self, function: str, version: int, pipes: dict[int, str], largest_bytes: int, hidden: tuple[str, ...] = ()
    ) -> None:
        """`largest_bytes` of each call are shown, and of those none of the `hidden` texts."""
        self._fields: dict[str, Any] = {"function": function, "version": version}
        self.pipes = pipes
        self._partial = dict.fromkeys(pipes, b"")
        self._largest_bytes = largest_bytes
        self._hidden = [os.fsencode(text) for text in hidden]
        self._left = largest_bytes
        self._dropped = 0

    def begin(self, invocation: str) -> None:
        """What is printed from now on belongs to this invocation."""
        self.end()
        self._fields["invocation_id"] = invocation
        if request_id := log.told("request_id"):
            self._fields["request_id"] = request_id
        self._left = self._largest_bytes

    def read(self, fd: int) -> bool:
        """Take what is there now; False at the end of the pipe."""
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        taken = data[: self._left]
        self._left -= len(taken)
        self._dropped += len(data) - len(taken)
        *lines, self._partial[fd] = (self._partial[fd] + taken).split(b"\n")
        for line in lines:
            self._say(fd, line)
        return True

    def end(self) -> None:
        """Say what was printed without a newline, and how much was not shown."""
        for fd, rest in self._partial.items():
            if rest:
                self._partial[fd] = b""
                self._say(fd, rest)
        if self._dropped:
            _meters.of(self._fields["function"]).drop(self._dropped, self._fields)
            self._dropped = 0

    def record(self, level: str, text: str, fields: dict[str, Any], size: int) -> None:
        """Say a log record of the function's own, of `size` bytes, within the bounds of what it prints.

        `fields` come in one field, so that none of them can be taken for the server's.
        """
        allowance = _meters.of(self._fields["function"]).allowance
        if size > self._left or not allowance.take(size + _RECORD_BYTES):
            self._dropped += size
            return
        self._left -= size
        shown = {key: self._without_secrets(value) for key, value in fields.items()}
        told = {"fields": shown, **self._fields} if shown else self._fields
        say = {"debug": logger.debug, "info": logger.info, "warning": logger.warning}.get(level, logger.failure)
        line = self._without_secrets(text)
        say("function_log", line=line, **told)
        tap.tell("log", line, self._fields, {"level": level, **({"fields": shown} if shown else {})})

    def _say(self, fd: int, line: bytes) -> None:
        for secret in self._hidden:  # before it is cut: half a secret is one too
            line = line.replace(secret, _MASK)
        shown = line[:LONGEST_LINE]
        if not _meters.of(self._fields["function"]).allowance.take(len(shown) + _RECORD_BYTES):
            self._dropped += len(line) + 1
            return
        text = shown.decode("utf-8", "replace").rstrip("\r")
        logger.info("function_output", stream=self.pipes[fd], line=text, **self._fields)
        tap.tell(self.pipes[fd], text, self._fields, {})

    def _without_secrets(self, value: Any) -> Any:
        if not self._hidden or not isinstance(value, str):
            return value
        data = os.fsencode(value.encode("utf-8", "backslashreplace").decode())
        for secret in self._hidden:
            data = data.replace(secret, _MASK)
        return data.decode("utf-8", "replace")
