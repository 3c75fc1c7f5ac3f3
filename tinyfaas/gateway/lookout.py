"""Where threads wait for the broker to send something: whichever has nothing else to do."""

from __future__ import annotations

import contextlib
import os
import select
import threading
from typing import Any

_ONCE = select.EPOLLONESHOT


class Lookout:
    """Looks at one socket for many threads, and wakes one of them, the last to come first: it is warm.

    What was seen is not looked for again before `look`; so there is one reader at a time, and no other wakes in vain.
    The connection's own thread, on `watch`, is woken by the socket only while no other thread attends.
    """

    def __init__(self) -> None:
        self._crowd, self._bell = _with_bell()
        self._owner, self._own_bell = _with_bell()
        self._changing = threading.Lock()
        self._attending = 0
        self._sock: Any = None
        self._events = 0
        self._owners_events = 0

    def add(self, sock: Any) -> None:
        """Look at a new connection's socket, for both; the kernel itself forgets one that is closed."""
        with self._changing:
            self._sock, self._events = sock, select.EPOLLIN | select.EPOLLOUT
            self._owners_events = 0 if self._attending else self._events
            self._crowd.register(sock, self._events | _ONCE)
            self._owner.register(sock, self._owners_events | _ONCE)

    def look(self, *, reading: bool, writing: bool) -> None:
        """Look whether something can be read or written, and wake one thread if so."""
        with self._changing:
            self._events = select.EPOLLIN * reading | select.EPOLLOUT * writing
            self._aim(self._crowd, self._events)
            if not self._attending:
                self._owners_events = self._events
                self._aim(self._owner, self._events)

    def come(self) -> None:
        """A thread attends from now on."""
        with self._changing:
            self._attending += 1
            if self._attending == 1 and self._owners_events:
                self._owners_events = 0
                self._aim(self._owner, 0)

    def leave(self) -> None:
        """It has something else to do."""
        with self._changing:
            self._attending -= 1
            if not self._attending and self._owners_events != self._events:
                self._owners_events = self._events
                self._aim(self._owner, self._events)

    def wait(self, timeout_s: float) -> bool:
        """For those that attend: whether the socket is ready; False when the bell rang, or after this time."""
        seen = any(fd != self._bell for fd, _ in self._crowd.poll(timeout_s, 1))
        if seen:
            self._events = 0
        return seen

    def watch(self, timeout_s: float) -> bool:
        """For the connection's own thread: the same."""
        seen = any(fd != self._own_bell for fd, _ in self._owner.poll(timeout_s, 1))
        if seen:
            self._events = self._owners_events = 0
        return seen

    def ring(self) -> None:
        """Let one that attends return; or, if none does, the next that comes."""
        os.eventfd_write(self._bell, 1)

    def call(self) -> None:
        """Let the connection's own thread return."""
        os.eventfd_write(self._own_bell, 1)

    def close(self) -> None:
        """When nobody waits any more."""
        for epoll, bell in ((self._crowd, self._bell), (self._owner, self._own_bell)):
            epoll.close()
            os.close(bell)

    def _aim(self, epoll: select.epoll, events: int) -> None:
        if self._sock is not None:
            with contextlib.suppress(OSError, ValueError):  # it is closed
                epoll.modify(self._sock, events | _ONCE)


def _with_bell() -> tuple[select.epoll, int]:
    """By its edges, so that one ring wakes one thread, and nobody needs to read it."""
    epoll, bell = select.epoll(), os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    epoll.register(bell, select.EPOLLIN | select.EPOLLET)
    return epoll, bell
