"""How glibc keeps the memory of this process: as little as can be, on a device that has little."""

from __future__ import annotations

import contextlib
import ctypes

_M_ARENA_MAX = -8  # as in malloc.h


def share() -> None:
    """Let all threads share one arena: each of their own would keep what it once had. To be said before there are any.

    Small objects are Python's own matter, so threads hardly ever wait for each other here.
    """
    with contextlib.suppress(AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def trim() -> None:
    """Give back to the system what is not used."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
