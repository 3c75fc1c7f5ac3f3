"""A wall clock for the server under test that a test can turn; the machine's own is never touched."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path


class WallClock:
    """What libfaketime reads at every call: an offset from the true time. The monotonic clock stays as it is."""

    def __init__(self, folder: Path, library: Path) -> None:
        self._file = folder / "offset"
        self._library = library
        self.turn_to(0)

    @property
    def environ(self) -> dict[str, str]:
        """The variables that make a process go by this clock."""
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def turn_to(self, days: int) -> None:
        """Be so many days ahead of the true time, or behind it."""
        self.turn_by_s(86_400 * days)

    def turn_by_s(self, seconds: int) -> None:
        """Be so many seconds ahead of the true time, or behind it."""
        beside = self._file.with_suffix(".new")
        beside.write_text(f"{seconds:+d}\n", encoding="ascii")
        beside.replace(self._file)

    def show(self, text: str) -> None:
        """Show this ISO time in UTC, and run on from there."""
        wanted = datetime.fromisoformat(text).replace(tzinfo=UTC)
        self.turn_by_s(round((wanted - datetime.now(UTC)).total_seconds()))


def library() -> Path | None:
    """Where libfaketime lies, if it is installed."""
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)
