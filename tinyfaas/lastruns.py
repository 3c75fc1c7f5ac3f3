"""When schedules last ran, for those that make up for what a downtime swallowed (`missed = "run_once"`)."""

from __future__ import annotations

import json
import time
from pathlib import Path

from tinyfaas import log
from tinyfaas.files import write_atomically
from tinyfaas.protocol import encode

logger = log.get("schedules")

_WRITE_EVERY_S = 600.0  # a card wears out: of what runs more often, not every run is written


class LastRuns:
    """`<data_dir>/schedules.json`: function → schedule → seconds since the epoch. For one thread.

    After a pulled plug the file may be ten minutes old: what runs that often may then run once for nothing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._runs: dict[str, dict[str, float]] = {}
        self._changed = False
        self._write_s = 0.0  # monotonic, when it may be written next
        self._failed = False

    def load(self) -> None:
        """Read what was noted before this start; a file that can't be read counts as empty."""
        try:
            found = json.loads(self._path.read_bytes())
            self._runs = {
                str(function): {str(name): float(at_s) for name, at_s in runs.items()}
                for function, runs in found.items()
            }
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            logger.error("last_runs_unreadable", path=str(self._path), error=str(error))

    def of(self, function: str, name: str) -> float | None:
        """When a schedule last ran."""
        return self._runs.get(function, {}).get(name)

    def note(self, function: str, name: str, at_s: float) -> None:
        """A schedule has run, or begins to count."""
        self._runs.setdefault(function, {})[name] = at_s
        self._changed = True

    def forget(self, function: str, name: str) -> None:
        """A schedule is no more."""
        runs = self._runs.get(function, {})
        if runs.pop(name, None) is not None:
            self._changed = True
        if not runs:
            self._runs.pop(function, None)

    def known(self) -> list[tuple[str, str]]:
        """Every schedule that is noted."""
        return [(function, name) for function, runs in self._runs.items() for name in runs]

    def write(self, *, at_once: bool = False) -> None:
        """Write what has changed, but not at every call. A full disk is logged: at worst something runs once more."""
        now_s = time.monotonic()
        if not self._changed or (now_s < self._write_s and not at_once):
            return
        self._changed, self._write_s = False, now_s + _WRITE_EVERY_S
        try:
            write_atomically(self._path, encode(self._runs))
            self._failed = False
        except OSError as error:
            if not self._failed:
                logger.error("last_runs_not_recorded", error=str(error))
            self._changed = self._failed = True
