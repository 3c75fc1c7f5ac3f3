"""Whether a thread lives: it says so itself, and says beforehand when it will be silent for longer.

`TINYFAAS_DEBUG_FREEZE` names a file for tests. A thread whose name stands on a line of it holds still at its next beat,
as if it hung, for as long as its name stands there. What was in the file when the server started does not count.
"""

from __future__ import annotations

import time
from pathlib import Path

_FROZEN_LOOK_S = 0.05


class Pulse:
    """The signs of life of one thread. Read by others, written by it alone."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._beat_s = time.monotonic()
        self._due_s = 0.0

    def beat(self) -> None:
        """A sign of life; what was allowed before is over."""
        self._beat_s = time.monotonic()
        self._due_s = 0.0
        if _freezer is not None:
            _freezer.hold(self.name)

    def allow(self, silent_s: float) -> None:
        """What comes may take so long before the next beat."""
        self._due_s = time.monotonic() + silent_s

    def late(self, within_s: float) -> bool:
        """Whether no sign of life came within this time, and no longer silence is allowed."""
        return time.monotonic() > max(self._beat_s + within_s, self._due_s)


class _Freezer:
    """Holds threads still, for tests."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._at_start = self._written()

    def hold(self, name: str) -> None:
        """Return when the thread of this name may go on."""
        while self._written() != self._at_start and name in self._names():
            time.sleep(_FROZEN_LOOK_S)

    def _written(self) -> int:
        try:
            return self._file.stat().st_mtime_ns
        except OSError:
            return 0

    def _names(self) -> list[str]:
        try:
            return self._file.read_text(encoding="utf-8").split()
        except OSError:
            return []


_freezer: _Freezer | None = None


def honour_freezes(file: str) -> None:
    """Let tests freeze threads by this file; called once, before there are threads. Empty: never."""
    global _freezer  # noqa: PLW0603  (a hook for tests is no reason to hand a thing through every room)
    _freezer = _Freezer(Path(file)) if file else None
