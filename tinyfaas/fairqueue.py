"""A queue per key, with the keys taking turns: a flood on one key delays the others by one item at most.

`cap(key)` says how many items of a key may be out at once; what is beyond waits without holding up other keys. `most`
items may be out in all.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
IDLE_S = 1.0


class Rest(Protocol):
    """Where a consumer waits that has nothing to take."""

    def wait(self, timeout_s: float) -> object:
        """Return when woken, or after this time; and at any other moment it likes."""

    def wake(self) -> object:
        """Let one that waits return; or, if none does, the next that comes."""


class Nap:
    """The plainest rest."""

    def __init__(self) -> None:
        self._woken = threading.Semaphore(0)

    def wait(self, timeout_s: float) -> None:
        """Wait for `wake`."""
        self._woken.acquire(timeout=timeout_s)

    def wake(self) -> None:
        """Wake one."""
        self._woken.release()


class FairQueue(Generic[T]):
    """Many producers, many consumers. Unbounded by itself: whoever submits has checked the bounds."""

    def __init__(self, cap: Callable[[str], int], most: int = sys.maxsize, rest: Rest | None = None) -> None:
        self._cap = cap
        self._most = most
        self._rest = rest or Nap()
        self._resting = 0
        self._total = 0
        self._waiting: dict[str, deque[T]] = {}
        self._out: dict[str, int] = {}
        self._turns: deque[str] = deque()
        self._has_turn: set[str] = set()
        self._closed = False
        self._changing = threading.Lock()

    def submit(self, key: str, item: T) -> None:
        """Put an item at the end of its key's queue, and wake a consumer for it."""
        self.put(key, item)
        self.wake()

    def put(self, key: str, item: T) -> None:
        """Put an item at the end of its key's queue. Whoever does so takes it, or calls `wake`."""
        with self._changing:
            self._waiting.setdefault(key, deque()).append(item)
            self._offer(key)

    def wake(self) -> None:
        """Wake a consumer if there is something to take."""
        with self._changing:
            self._wake()

    def take(
        self, finished: str | None = None, while_idle: Callable[[], object] | None = None, *, wait: bool = True
    ) -> tuple[str, T] | None:
        """The next item of the key whose turn it is; waits for one. None once the queue is closed.

        `finished` is the key of the item that this consumer took before, now done. `while_idle` is called every
        `IDLE_S` seconds, or more often, as long as it waits. Without `wait`, None also says that there is nothing now.
        """
        rested = False
        while True:
            with self._changing:
                if finished is not None:
                    self._finish(finished)
                    finished = None
                self._resting -= rested
                if self._turns and self._total < self._most and not self._closed:
                    taken = self._pop()
                    self._wake()  # a consumer that finishes an item takes the next: no other wakes up in vain
                    return taken
                if self._closed:
                    self._rest.wake()  # the next one shall hear of it too
                if self._closed or not wait:
                    return None
                self._resting += 1
            rested = True
            self._rest.wait(IDLE_S)
            if while_idle is not None:
                while_idle()

    def done(self, key: str) -> None:
        """An item that was taken is finished, and its consumer takes no other yet."""
        with self._changing:
            self._finish(key)
            self._wake()

    def close(self) -> list[T]:
        """Wake every consumer with None; returns what was still waiting."""
        with self._changing:
            rest = [item for waiting in self._waiting.values() for item in waiting]
            self._waiting.clear()
            self._turns.clear()
            self._closed = True
            self._rest.wake()
        return rest

    def waiting(self) -> int:
        """Items that wait for their turn."""
        with self._changing:
            return sum(len(waiting) for waiting in self._waiting.values())

    def holds(self, keys: Iterable[str]) -> bool:
        """Whether an item of one of these keys waits or is out."""
        with self._changing:
            return any(key in self._waiting or key in self._out for key in keys)

    def out(self) -> int:
        """Items taken and not yet done."""
        with self._changing:
            return self._total

    def _pop(self) -> tuple[str, T]:
        key = self._turns.popleft()
        self._has_turn.discard(key)
        waiting = self._waiting[key]
        item = waiting.popleft()
        self._total += 1
        self._out[key] = self._out.get(key, 0) + 1
        if waiting:
            self._offer(key)
        else:
            del self._waiting[key]
        return key, item

    def _finish(self, key: str) -> None:
        left = self._out[key] - 1
        self._total -= 1
        if left:
            self._out[key] = left
        else:
            del self._out[key]
        if key in self._waiting:
            self._offer(key)

    def _offer(self, key: str) -> None:
        if key not in self._has_turn and self._out.get(key, 0) < max(1, self._cap(key)):
            self._has_turn.add(key)
            self._turns.append(key)

    def _wake(self) -> None:
        if self._turns and self._resting and self._total < self._most:
            self._rest.wake()
