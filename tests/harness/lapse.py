"""Time that passes because its passing is the fault, and not in the hope that something will be ready by then."""

from __future__ import annotations

import threading


def lapse(seconds: float) -> None:
    """Let so much time pass."""
    threading.Event().wait(seconds)
