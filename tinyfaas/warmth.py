"""Keeps functions warm that ask for it (`min_warm`): starts workers before anyone calls."""

from __future__ import annotations

import threading
from collections.abc import Callable

from tinyfaas import log
from tinyfaas.model import FunctionSpec
from tinyfaas.pool import Pool

logger = log.get("pool")

_EVERY_S = 1.0


class Warmth:
    """A thread that looks at `specs()` now and then. Starting a worker takes time that the main loop has not."""

    def __init__(self, pool: Pool, specs: Callable[[], list[FunctionSpec]]) -> None:
        self._pool = pool
        self._specs = specs
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="warmth", daemon=True)

    def start(self) -> None:
        """Start looking."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; a worker that is just starting is waited for, but not for long."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def _run(self) -> None:
        while not self._stopping.wait(_EVERY_S):
            try:
                for spec in self._specs():
                    lacking = spec.limits.min_warm - self._pool.warm(spec.name) if spec.limits.min_warm else 0
                    for _ in range(lacking):
                        self._pool.warm_up(spec)
            except Exception:
                logger.exception("warmth_failed")
