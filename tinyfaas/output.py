"""What a function prints, turned into log records line by line, bounded per call."""

from __future__ import annotations

import os
from typing import Any

from tinyfaas import log
from tinyfaas.fields import SECRET_MASK

logger = log.get("function")

LONGEST_LINE = 4_096
_CHUNK = 65_536


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
        self._hidden = hidden
        self._left = largest_bytes
        self._dropped = 0

    def begin(self, invocation: str) -> None:
        """What is printed from now on belongs to this invocation."""
        self.end()
        self._fields["invocation_id"] = invocation
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
            logger.warning("function_output_dropped", bytes=self._dropped, **self._fields)
            self._dropped = 0

    def _say(self, fd: int, line: bytes) -> None:
        text = line[:LONGEST_LINE].decode("utf-8", "replace").rstrip("\r")
        for secret in self._hidden:
            text = text.replace(secret, SECRET_MASK)
        logger.info("function_output", stream=self.pipes[fd], line=text, **self._fields)
