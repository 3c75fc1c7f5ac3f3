"""Chatty sensors: what waits for more (`batch`), for quiet (`debounce_s`), or for its time (`throttle_s`).

Pure: whoever asks says what time it is, by the monotonic clock.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field

from tinyfaas.model import Request
from tinyfaas.triggers import Target

MOST_TOPICS = 10_000  # that are quiet for a moment or have their time; what comes beyond is let through


@dataclass(slots=True)
class Due:
    """What has become of what waited: calls to make now, each with its messages, and messages that nobody gets."""

    ready: list[tuple[Target, list[Request]]] = field(default_factory=list)
    dropped: list[Request] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Window:
    key: tuple[str, ...]
    target: Target
    due_s: float
    waiting: list[Request]
    bytes: int = 0
    closed: bool = False


class Windows:
    """What waits, for each trigger of a function, and by topic where the last message wins. Not thread-safe."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, ...], _Window] = {}
        self._by_time: list[tuple[float, int, _Window]] = []  # a window's own time may have moved on
        self._number = itertools.count()

    def add(self, target: Target, request: Request, now_s: float) -> Due:
        """A message for a trigger that has a window."""
        trigger = target.trigger
        if trigger.batch is not None:
            return self._collect(target, request, now_s)
        key = (target.function, trigger.topic, request.topic)
        window = self._open.get(key)
        if window is None and len(self._open) >= MOST_TOPICS:
            return Due([(target, [request])])
        if window is None:
            throttled = not trigger.debounce_s
            self._begin(key, target, now_s + (trigger.debounce_s or trigger.throttle_s), [] if throttled else [request])
            return Due([(target, [request])] if throttled else [])
        dropped, window.waiting, window.target = window.waiting, [request], target
        if trigger.debounce_s:
            window.due_s = now_s + trigger.debounce_s
        return Due(dropped=dropped)

    def due(self, now_s: float) -> Due:
        """What need not wait any more."""
        due = Due()
        while self._by_time and self._by_time[0][0] <= now_s:
            window = heapq.heappop(self._by_time)[2]
            if window.closed:
                continue
            if window.due_s > now_s:
                self._schedule(window)
                continue
            if window.waiting:
                due.ready.append((window.target, window.waiting))
            if window.waiting and window.target.trigger.throttle_s:
                window.waiting = []
                window.due_s = now_s + window.target.trigger.throttle_s
                self._schedule(window)
            else:
                self._end(window)
        return due

    def next_s(self) -> float | None:
        """When to ask again what is due; None while nothing waits."""
        return self._by_time[0][0] if self._by_time else None

    def full_batches(self) -> Due:
        """All batches, as full as they are: there is no room for more to come."""
        batches = [window for window in self._open.values() if window.target.trigger.batch is not None]
        for window in batches:
            self._end(window)
        return Due([(window.target, window.waiting) for window in batches])

    def waiting(self) -> int:
        """Messages that wait."""
        return sum(len(window.waiting) for window in self._open.values())

    def forget(self, function: str) -> Due:
        """Drop what waits for a function."""
        windows = [window for window in self._open.values() if window.target.function == function]
        for window in windows:
            self._end(window)
        return Due(dropped=[request for window in windows for request in window.waiting])

    def clear(self) -> list[Request]:
        """Forget everything; returns what waited."""
        waited = [request for window in self._open.values() for request in window.waiting]
        self._open.clear()
        self._by_time.clear()
        return waited

    def _collect(self, target: Target, request: Request, now_s: float) -> Due:
        batch = target.trigger.batch
        assert batch is not None
        due, key = Due(), (target.function, target.trigger.topic)
        window = self._open.get(key)
        if window is not None and window.bytes + len(request.payload) > target.largest_bytes:
            self._end(window)
            due.ready.append((window.target, window.waiting))
            window = None
        if window is None:
            window = self._begin(key, target, now_s + batch.seconds, [])
        window.waiting.append(request)
        window.bytes += len(request.payload)
        if len(window.waiting) >= batch.events:
            self._end(window)
            due.ready.append((target, window.waiting))
        return due

    def _begin(self, key: tuple[str, ...], target: Target, due_s: float, waiting: list[Request]) -> _Window:
        window = self._open[key] = _Window(key, target, due_s, waiting)
        self._schedule(window)
        return window

    def _schedule(self, window: _Window) -> None:
        heapq.heappush(self._by_time, (window.due_s, next(self._number), window))

    def _end(self, window: _Window) -> None:
        window.closed = True
        del self._open[window.key]
