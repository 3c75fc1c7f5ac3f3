"""A good function that is called all the while, whatever a bad one does beside it."""

from __future__ import annotations

import statistics
import threading
import time
from types import TracebackType

from tests.harness.client import Client

GOOD = "def main(value): return value"
_PAUSE_S = 0.005


class Beside:
    """Calls from another client, one after the other, from entering to leaving; each must have its own answer."""

    def __init__(self, client: Client, function: str) -> None:
        self.times_s: list[float] = []
        self._client = client
        self._function = function
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Beside:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        if error is None and self._failure is not None:
            raise self._failure

    @property
    def slowest_s(self) -> float:
        """Seconds that the slowest call took."""
        return max(self.times_s)

    @property
    def usual_s(self) -> float:
        """Seconds that half of the calls took at most."""
        return statistics.median(self.times_s)

    def _run(self) -> None:
        try:
            while True:
                number, began_s = len(self.times_s), time.monotonic()
                assert self._client.call(self._function, number) == number
                self.times_s.append(time.monotonic() - began_s)
                self._client.seen.clear()
                if self._stop.wait(_PAUSE_S):
                    break
        except BaseException as failure:  # noqa: BLE001  (raised where it is awaited)
            self._failure = failure
