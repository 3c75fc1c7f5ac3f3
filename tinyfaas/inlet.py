"""Where requests come from, for the threads that run them."""

from __future__ import annotations

from typing import Protocol

from tinyfaas.fairqueue import Nap, Rest


class Inlet(Rest, Protocol):
    """Where requests come from, as the threads see it that run them: while they rest, they take them in themselves."""

    def read_on(self) -> object:
        """Take in what has come meanwhile, if this thread was the last to do so."""

    def look_on(self) -> object:
        """Let others take in what comes: this thread is about to wait for something else."""


class NoInlet(Nap):
    """For requests that come from nowhere but this process."""

    def read_on(self) -> None:
        """There is nothing to read."""

    def look_on(self) -> None:
        """Nor to look for."""
