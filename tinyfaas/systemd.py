"""Speaks sd_notify. Takes `NOTIFY_SOCKET` out of the environment, so that no child can speak for the server."""

from __future__ import annotations

import os
import time

import sdnotify

_PATIENCE_S = 1.0  # for a systemd that is busy; the server goes on without being heard


class Notifier:
    """Tells systemd how the server is; says nothing where there is no systemd.

    `watchdog_s` is how long systemd waits for a sign of life; 0: it watches nobody.
    """

    def __init__(self) -> None:
        self._notifier = sdnotify.SystemdNotifier()
        if self._notifier.socket is not None:
            self._notifier.socket.settimeout(_PATIENCE_S)
        self._said = ""
        meant_for = os.environ.pop("WATCHDOG_PID", "") or str(os.getpid())
        watchdog_us = os.environ.pop("WATCHDOG_USEC", "") if meant_for == str(os.getpid()) else ""
        self.watchdog_s = int(watchdog_us) / 1e6 if watchdog_us.isdecimal() else 0.0
        os.environ.pop("NOTIFY_SOCKET", None)

    def starting(self, doing: str, within_s: float) -> None:
        """What comes may take so long, whatever the unit grants for a start; `doing` is said."""
        self._notifier.notify(f"EXTEND_TIMEOUT_USEC={within_s * 1e6:.0f}\nSTATUS={doing}")

    def ready(self, status: str) -> None:
        """State is loaded, and the first attempt to connect was made."""
        self._said = status
        self._notifier.notify(f"READY=1\nSTATUS={status}")

    def status(self, text: str) -> None:
        """One line for `systemctl status`; what was said last is not said again."""
        if text != self._said:
            self._said = text
            self._notifier.notify(f"STATUS={text}")

    def alive(self) -> None:
        """Feed the watchdog."""
        self._notifier.notify("WATCHDOG=1")

    def reloading(self) -> None:
        """The settings are read again; `reloaded` must follow. A unit with Type=notify-reload asks for the time."""
        self._notifier.notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def reloaded(self) -> None:
        """They have been read, or refused."""
        self._notifier.notify("READY=1")

    def stopping(self, status: str, within_s: float) -> None:
        """The stop has begun, and may take so long whatever the unit grants."""
        self._notifier.notify(f"STOPPING=1\nSTATUS={status}\nEXTEND_TIMEOUT_USEC={within_s * 1e6:.0f}")

    def close(self) -> None:
        """Say nothing more."""
        if self._notifier.socket is not None:
            self._notifier.socket.close()
