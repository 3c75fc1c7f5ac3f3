"""Speaks sd_notify. Takes `NOTIFY_SOCKET` out of the environment, so that no child can speak for the server."""

from __future__ import annotations

import os

import sdnotify


class Notifier:
    """Tells systemd how the server is; says nothing where there is no systemd."""

    def __init__(self) -> None:
        self._notifier = sdnotify.SystemdNotifier()
        self.watchdog_s = int(os.environ.pop("WATCHDOG_USEC", "0")) / 1e6
        for name in ("NOTIFY_SOCKET", "WATCHDOG_PID"):
            os.environ.pop(name, None)

    def ready(self) -> None:
        """State is loaded, and the first attempt to connect was made."""
        self._notifier.notify("READY=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._notifier.notify(f"STATUS={text}")

    def alive(self) -> None:
        """Feed the watchdog."""
        self._notifier.notify("WATCHDOG=1")

    def stopping(self) -> None:
        """The stop has begun."""
        self._notifier.notify("STOPPING=1")

    def close(self) -> None:
        """Say nothing more."""
        if self._notifier.socket is not None:
            self._notifier.socket.close()
