"""The watch over running workers and builds: who passes a limit that no kernel mechanism holds is ended, or slowed.

Memory is what the processes use, not their address space, so threads and numpy work under a small limit.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from tinyfaas import family, log, processes
from tinyfaas.build import Build
from tinyfaas.cell import Cell
from tinyfaas.errors import Crashed, Failure, OutOfMemory
from tinyfaas.files import size_of
from tinyfaas.model import Limits
from tinyfaas.processes import Usage
from tinyfaas.pulse import Pulse
from tinyfaas.sandbox import PRIVATE
from tinyfaas.worker import Worker

logger = log.get("watch")

_EVERY_S = 0.05
_CLOSELY_S = 0.01  # while one is in the upper half of its memory
_ALL_EVERY_S = 1.0  # how often the idle are looked at too, and the folders
_MIB = 1024 * 1024
_MOST_FILES = 10_000
_BURST_S = 0.1  # CPU time that may be saved up


@dataclass(slots=True)
class Ration:
    """The CPU time of one worker: what it may still spend, in seconds, and what it had used when that was reckoned."""

    left_s: float
    used_s: float
    at_s: float
    stopped: bool = False


class Watch:
    """A thread that looks at `busy()` and `builds()` many times a second, and at `everyone()` now and then.

    What a build stores is no matter of the watch: an environment takes long to look at, and that is for its own thread.

    `rations_cpu` is said where no control group holds workers to their CPU time: then they are stopped for a while.
    """

    def __init__(
        self, busy: Callable[[], list[Worker]], everyone: Callable[[], list[Worker]], builds: Callable[[], list[Build]],
        *, rations_cpu: bool,
    ) -> None:  # fmt: skip
        self._busy = busy
        self._everyone = everyone
        self._builds = builds
        self._rations_cpu = rations_cpu
        self._rations: WeakKeyDictionary[Worker, Ration] = WeakKeyDictionary()
        self._stopping = threading.Event()
        self._pulse = Pulse("watch")
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Start looking."""
        self._thread.start()

    def stuck(self, within_s: float) -> list[str]:
        """Its name, if the thread has died or shown no life within this time."""
        if self._stopping.is_set() or (self._thread.is_alive() and not self._pulse.late(within_s)):
            return []
        return [self._pulse.name]

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        self._thread.join(1.0)

    def _run(self) -> None:
        next_all_s, pause_s = 0.0, _EVERY_S
        while not self._stopping.wait(pause_s):
            self._pulse.beat()
            now_s = time.monotonic()
            thoroughly = now_s >= next_all_s
            if thoroughly:
                next_all_s = now_s + _ALL_EVERY_S
                if count := family.end_orphans():
                    logger.warning("orphans_ended", count=count)
            pause_s = _EVERY_S
            for worker in self._everyone() if thoroughly else self._busy():
                try:
                    if self._look(worker, thoroughly=thoroughly):
                        pause_s = _CLOSELY_S
                except Exception:
                    logger.exception("watch_failed", function=worker.spec.name)
            for build in self._builds():
                try:
                    if (breach := _breach(build.limits, *_use(build))) is not None:
                        build.end(breach)
                except Exception:
                    logger.exception("watch_failed", pid=build.pid)

    def _look(self, worker: Worker, *, thoroughly: bool) -> bool:
        """End a worker that has passed a limit; returns whether it is near its limit of memory."""
        cell = worker.cell
        used, stored = _use(cell)
        breach = _breach(cell.limits, used, stored) or (_overfull(cell) if thoroughly else None)
        if breach is not None:
            worker.end(breach)
        elif self._rations_cpu and cell.limits.cpu_percent:
            self._ration(worker, used.cpu_s)
        return used.memory_bytes + stored > cell.limits.memory_mb * _MIB // 2

    def _ration(self, worker: Worker, used_s: float) -> None:
        """Stop a worker that has spent more CPU time than it may, until it may again."""
        now_s, rate = time.monotonic(), worker.cell.limits.cpu_percent / 100
        ration = self._rations.setdefault(worker, Ration(_BURST_S * rate, 0.0, now_s))
        ration.left_s = min(_BURST_S * rate, ration.left_s + (now_s - ration.at_s) * rate) - (used_s - ration.used_s)
        ration.used_s, ration.at_s = used_s, now_s
        if (ration.left_s < 0) != ration.stopped:
            ration.stopped = not ration.stopped
            worker.cell.signal(signal.SIGSTOP if ration.stopped else signal.SIGCONT)


def _use(watched: Cell | Build) -> tuple[Usage, int]:
    """What it uses, and how many bytes it has stored in memory."""
    most_bytes = watched.limits.memory_mb * _MIB
    stored = sum(processes.stored_bytes(watched.inside, each, most_bytes) for each in PRIVATE) if watched.boxed else 0
    return watched.usage(enough_bytes=most_bytes - stored), stored


def _breach(limits: Limits, used: Usage, stored_bytes: int) -> Failure | None:
    total_bytes = used.memory_bytes + stored_bytes
    if total_bytes > limits.memory_mb * _MIB:
        mib = total_bytes / _MIB
        return OutOfMemory(f"it used {mib:.0f} MiB of memory, {limits.memory_mb} are allowed, and was killed")
    if used.tasks > limits.max_processes:
        return Crashed(f"it had more than the {limits.max_processes} processes and threads that are allowed")
    return None


def _overfull(cell: Cell) -> Failure | None:
    stored, files = size_of(cell.state_dir, most_files=_MOST_FILES)
    if stored > cell.limits.max_disk_mb * _MIB:
        return Crashed(f"its folder holds {stored / _MIB:.0f} MiB, {cell.limits.max_disk_mb} are allowed")
    if files >= _MOST_FILES:
        return Crashed(f"its folder holds {_MOST_FILES} files or more")
    return None
