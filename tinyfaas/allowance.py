"""How much of something may pass: so much a second in the long run, and what was saved up at once."""

from __future__ import annotations

import threading
import time

SAVED_UP_S = 10.0


class Allowance:
    """A token bucket that holds `SAVED_UP_S` seconds' worth of `per_s`, which may be changed at any time."""

    def __init__(self, per_s: float) -> None:
        self.per_s = per_s
        self._left = per_s * SAVED_UP_S
        self._at_s = time.monotonic()
        self._taking = threading.Lock()

    def take(self, amount: float = 1.0) -> bool:
        """Whether so much may pass now; if so, it is used up."""
        with self._taking:
            self._fill()
            if self._left < amount:
                return False
            self._left -= amount
            return True

    def untouched(self) -> bool:
        """Whether as much is saved up as ever can be."""
        with self._taking:
            self._fill()
            return self._left >= self.per_s * SAVED_UP_S

    def _fill(self) -> None:
        now_s = time.monotonic()
        self._left = min(self.per_s * SAVED_UP_S, self._left + (now_s - self._at_s) * self.per_s)
        self._at_s = now_s
