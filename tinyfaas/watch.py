"""The watch over running workers and builds: whoever passes a limit that no kernel mechanism holds is ended by it.

Memory is what the processes use, not their address space, so threads and numpy work under a small limit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from tinyfaas import family, log, processes
from tinyfaas.errors import Crashed, Failure, OutOfMemory
from tinyfaas.files import size_of
from tinyfaas.model import Limits
from tinyfaas.sandbox import PRIVATE

logger = log.get("watch")

_EVERY_S = 0.05
_ALL_EVERY = 20  # looks at the busy for one at the idle
_MIB = 1024 * 1024
_MOST_FILES = 10_000


class Watched(Protocol):
    """Processes under limits: `pid` and all below it. `inside` is one that sees what the code in them sees."""

    @property
    def pid(self) -> int: ...  # noqa: D102
    @property
    def inside(self) -> int: ...  # noqa: D102
    @property
    def boxed(self) -> bool: ...  # noqa: D102
    @property
    def overhead_tasks(self) -> int: ...  # noqa: D102
    @property
    def limits(self) -> Limits: ...  # noqa: D102

    def end(self, breach: Failure) -> None:
        """Kill them all, because of this."""


class WithFolder(Watched, Protocol):
    """Those whose folder is looked at as well."""

    @property
    def state_dir(self) -> Path: ...  # noqa: D102


class Watch:
    """A thread that looks at `busy()` and `builds()` many times a second, and at `everyone()` now and then.

    What a build stores is no matter of the watch: an environment takes long to look at, and that is for its own thread.
    """

    def __init__(
        self,
        busy: Callable[[], Sequence[WithFolder]],
        everyone: Callable[[], Sequence[WithFolder]],
        builds: Callable[[], Sequence[Watched]] = list,
    ) -> None:
        self._busy = busy
        self._everyone = everyone
        self._builds = builds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Start looking."""
        self._thread.start()

    def dead(self) -> list[str]:
        """Its name, if the thread has died."""
        return [] if self._thread.is_alive() or self._stopping.is_set() else [self._thread.name]

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        self._thread.join(1.0)

    def _run(self) -> None:
        turn = 0
        while not self._stopping.wait(_EVERY_S):
            turn = (turn + 1) % _ALL_EVERY
            if turn == 0 and (count := family.end_orphans()):
                logger.warning("orphans_ended", count=count)
            for worker in self._everyone() if turn == 0 else self._busy():
                self._look(worker, worker.state_dir if turn == 0 else None)
            for build in self._builds():
                self._look(build, None)

    def _look(self, watched: Watched, folder: Path | None) -> None:
        try:
            breach = _breach(watched) or (_overfull(folder, watched.limits) if folder else None)
            if breach is not None:
                watched.end(breach)
        except Exception:
            logger.exception("watch_failed", pid=watched.pid)


def _breach(watched: Watched) -> Failure | None:
    limits = watched.limits
    most_bytes = limits.memory_mb * _MIB
    most_tasks = limits.max_processes + watched.overhead_tasks
    stored = sum(processes.stored_bytes(watched.inside, each, most_bytes) for each in PRIVATE) if watched.boxed else 0
    used = processes.usage(watched.pid, enough_bytes=most_bytes - stored, enough_tasks=most_tasks)
    if used.tasks > most_tasks:
        return Crashed(f"it had more than the {limits.max_processes} processes and threads that are allowed")
    if used.memory_bytes + stored > most_bytes:
        mib = (used.memory_bytes + stored) / _MIB
        return OutOfMemory(f"it used {mib:.0f} MiB of memory, {limits.memory_mb} are allowed, and was killed")
    return None


def _overfull(folder: Path, limits: Limits) -> Failure | None:
    stored, files = size_of(folder, most_files=_MOST_FILES)
    if stored > limits.max_disk_mb * _MIB:
        return Crashed(f"its folder holds {stored / _MIB:.0f} MiB, {limits.max_disk_mb} are allowed")
    if files >= _MOST_FILES:
        return Crashed(f"its folder holds {_MOST_FILES} files or more")
    return None
