"""A queue per key, with the keys taking turns: a flood on one key delays the others by one item at most.

`cap(key)` says how many items of a key may be out at once; what is beyond waits without holding up other keys.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Many producers, many consumers. Unbounded by itself: whoever submits has checked the bounds."""

    def __init__(self, cap: Callable[[str], int]) -> None:
        self._cap = cap
        self._waiting: dict[str, deque[T]] = {}
        self._out: dict[str, int] = {}
        # One token for each key whose turn may come; a C queue, because every request passes through it.
        self._turns: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._has_turn: set[str] = set()
        self._changing = threading.Lock()

    def submit(self, key: str, item: T) -> None:
        """Put an item at the end of its key's queue."""
        with self._changing:
            self._waiting.setdefault(key, deque()).append(item)
            self._offer(key)

    def take(self) -> tuple[str, T] | None:
        """The next item of the key whose turn it is; waits for one. None once the queue is closed."""
        while True:
            key = self._turns.get()
            if key is None:
                self._turns.put(None)  # for the next consumer
                return None
            with self._changing:
                self._has_turn.discard(key)
                waiting = self._waiting.get(key)
                if not waiting:
                    continue
                item = waiting.popleft()
                self._out[key] = self._out.get(key, 0) + 1
                if waiting:
                    self._offer(key)
                else:
                    del self._waiting[key]
            return key, item

    def done(self, key: str) -> None:
        """An item that was taken is finished."""
        with self._changing:
            left = self._out[key] - 1
            if left:
                self._out[key] = left
            else:
                del self._out[key]
            if key in self._waiting:
                self._offer(key)

    def close(self) -> list[T]:
        """Wake every consumer with None; returns what was still waiting."""
        with self._changing:
            rest = [item for waiting in self._waiting.values() for item in waiting]
            self._waiting.clear()
        self._turns.put(None)
        return rest

    def waiting(self) -> int:
        """Items that wait for their turn."""
        with self._changing:
            return sum(len(waiting) for waiting in self._waiting.values())

    def out(self) -> int:
        """Items taken and not yet done."""
        return sum(list(self._out.values()))

    def _offer(self, key: str) -> None:
        if key not in self._has_turn and self._out.get(key, 0) < max(1, self._cap(key)):
            self._has_turn.add(key)
            self._turns.put(key)
