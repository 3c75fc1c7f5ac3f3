"""The watch over running workers: whoever passes a limit that no kernel mechanism holds is ended by it.

Memory is what the processes use, not their address space, so threads and numpy work under a small limit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from tinyfaas import family, log, processes
from tinyfaas.errors import Crashed, Failure, OutOfMemory
from tinyfaas.files import size_of
from tinyfaas.sandbox import PRIVATE
from tinyfaas.worker import Worker

logger = log.get("watch")

_EVERY_S = 0.05
_ALL_EVERY = 20  # looks at the busy for one at the idle
_MIB = 1024 * 1024
_MOST_FILES = 10_000


class Watch:
    """A thread that looks at `busy()` many times a second, and at `everyone()` now and then."""

    def __init__(self, busy: Callable[[], list[Worker]], everyone: Callable[[], list[Worker]]) -> None:
        self._busy = busy
        self._everyone = everyone
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
                try:
                    if (breach := _breach(worker) or (_overfull(worker) if turn == 0 else None)) is not None:
                        worker.end(breach)
                except Exception:
                    logger.exception("watch_failed", function=worker.spec.name)


def _breach(worker: Worker) -> Failure | None:
    limits = worker.spec.limits
    most_bytes = limits.memory_mb * _MIB
    stored = sum(processes.stored_bytes(worker.inside, each, most_bytes) for each in PRIVATE) if worker.boxed else 0
    used = processes.usage(worker.pid, enough_bytes=most_bytes - stored)
    if used.memory_bytes + stored > most_bytes:
        mib = (used.memory_bytes + stored) / _MIB
        return OutOfMemory(f"it used {mib:.0f} MiB of memory, {limits.memory_mb} are allowed, and was killed")
    if used.tasks > limits.max_processes + worker.overhead_tasks:
        return Crashed(f"it had {used.tasks} processes and threads, {limits.max_processes} are allowed")
    return None


def _overfull(worker: Worker) -> Failure | None:
    limits = worker.spec.limits
    stored, files = size_of(worker.spec.state_dir, most_files=_MOST_FILES)
    if stored > limits.max_disk_mb * _MIB:
        return Crashed(f"its folder holds {stored / _MIB:.0f} MiB, {limits.max_disk_mb} are allowed")
    if files >= _MOST_FILES:
        return Crashed(f"its folder holds {_MOST_FILES} files or more")
    return None
