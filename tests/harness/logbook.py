"""What a server under test writes on stderr: its log, as records one can ask for."""

from __future__ import annotations

import json
import threading
import time
from typing import IO, Any

from tests.harness.waiting import PATIENCE_S

_LARGEST_LINES = 50_000


class Logbook:
    """Reads a pipe to its end, on a thread of its own. `keys` of a query are equal in every record found."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._records: list[dict[str, Any]] = []
        self._came = threading.Condition()
        self._reader: threading.Thread | None = None

    def follow(self, pipe: IO[bytes]) -> None:
        """Read from now on from this pipe as well."""
        self._reader = threading.Thread(target=self._read, args=(pipe,), daemon=True)
        self._reader.start()

    def finish(self) -> None:
        """Wait until the pipe has been read to its end."""
        if self._reader is not None:
            self._reader.join(PATIENCE_S)

    def mark(self) -> int:
        """How many records there are, to look only at later ones."""
        with self._came:
            return len(self._records)

    def records(self, since: int = 0, **keys: object) -> list[dict[str, Any]]:
        """The records whose keys have these values."""
        with self._came:
            return [record for record in self._records[since:] if keys.items() <= record.items()]

    def wait(self, since: int = 0, timeout_s: float = PATIENCE_S, **keys: object) -> dict[str, Any]:
        """The first record whose keys have these values, as soon as it is there."""
        deadline_s = time.monotonic() + timeout_s
        with self._came:
            while not (found := [record for record in self._records[since:] if keys.items() <= record.items()]):
                if not self._came.wait(max(0.0, deadline_s - time.monotonic())):
                    raise AssertionError(f"waited {timeout_s:g} s in vain for a log record with {keys}:\n{self.tail()}")
            return found[0]

    def text(self) -> str:
        """All of it as it came."""
        with self._came:
            return "\n".join(self._lines)

    def tail(self, lines: int = 20) -> str:
        """The end of it, for a report."""
        with self._came:
            return "\n".join(line[:500] for line in self._lines[-lines:])

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe:
            for raw in pipe:
                line = raw.decode("utf-8", "replace").rstrip("\n")
                try:
                    record = json.loads(line)
                except ValueError:
                    record = {}
                with self._came:
                    assert len(self._lines) < _LARGEST_LINES, "the server's log grows without bound"
                    self._lines.append(line)
                    self._records.append(record if isinstance(record, dict) else {})
                    self._came.notify_all()
