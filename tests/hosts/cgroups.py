"""A control group and what is below it: every process of a host, whatever became of its parents."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from tests.harness.waiting import eventually


class CgroupTree:
    """One folder of one hierarchy."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def make(self) -> Path:
        """Create it; returns the file that takes processes in."""
        self.path.mkdir(parents=True, exist_ok=True)
        return self.path / "cgroup.procs"

    def kill(self) -> None:
        """End all processes in it, and wait until they are gone."""
        eventually(self._is_empty_after_kill, f"the processes in {self.path} to be gone")

    def remove(self) -> None:
        """Remove it, empty as it is."""
        eventually(self._is_removed, f"{self.path} to be given back")

    def _is_removed(self) -> bool:
        for folder, _, _ in os.walk(self.path, topdown=False):
            with contextlib.suppress(OSError):  # gone already, or busy for a moment with what has just ended
                Path(folder).rmdir()
        return not self.path.exists()

    def _is_empty_after_kill(self) -> bool:
        folders = [Path(folder) for folder, _, _ in os.walk(self.path)]  # which may go while we look
        alive = [int(pid) for folder in folders for pid in _read(folder / "cgroup.procs").split()]
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not alive


def _read(procs: Path) -> str:
    with contextlib.suppress(OSError):  # gone in between
        return procs.read_text()
    return ""
