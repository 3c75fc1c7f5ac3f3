"""Waiting for what must come, with a bound: a test never sleeps for luck."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 30.0  # far more than anything takes: a machine under load is no failure
_PAUSE_S = 0.01


def eventually(look: Callable[[], T], what: str, timeout_s: float = PATIENCE_S) -> T:
    """What `look` returns as soon as that is true; fails with `what` if it does not become so in time."""
    deadline_s = time.monotonic() + timeout_s
    while not (seen := look()):
        if time.monotonic() > deadline_s:
            raise AssertionError(f"waited {timeout_s:g} s in vain for: {what}")
        time.sleep(_PAUSE_S)
    return seen


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Whether somebody accepts connections on a port of loopback."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return True
    except OSError:
        return False
