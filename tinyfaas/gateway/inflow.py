"""Reading what the broker sends: by one thread at a time, whichever is there and has nothing else to do."""

from __future__ import annotations

import threading
from collections.abc import Callable

from tinyfaas.gateway.client import ServerClient
from tinyfaas.gateway.lookout import Lookout

_AT_ONCE = 16  # packets; the bounds of what is held may be passed by so many


class Inflow:
    """Has `client` read as long as `takes` allows it; `afterwards` sees to what follows from each few packets, and
    `write` writes what waits for the socket. All three are called by the thread that reads, under a lock of this class.
    """

    def __init__(
        self, client: ServerClient, takes: Callable[[], bool], afterwards: Callable[[], None],
        write: Callable[[], None],
    ) -> None:  # fmt: skip
        self._client = client
        self._takes = takes
        self._afterwards = afterwards
        self._write = write
        self._lookout = Lookout()
        self._keeper = 0  # the thread that reads whatever comes, until it says otherwise; 0: whom the lookout wakes
        self._reader = 0  # the thread that reads just now
        self._unread = False
        self.reading = threading.Lock()
        self.fault: Exception | None = None

    # --- for any thread ----------------------------------------------------------------------------------------------

    def attend(self, timeout_s: float) -> None:
        """Wait until the broker has sent something, and take it in; for who has nothing else to do.

        Returns at the latest after this time, or when somebody rings.
        """
        self._lookout.come()
        try:
            self.look_on()
            if self._lookout.wait(timeout_s) or self._unread:
                with self.reading:
                    self._see_to()
        finally:
            self._lookout.leave()

    def read_on(self) -> None:
        """Take in what has come, and let no other thread look for it: this one is busy, and will come back at once."""
        if self._keeper not in (0, threading.get_ident()) or not self.reading.acquire(blocking=False):
            return
        try:
            if not self._keeper:
                self._lookout.look(reading=False, writing=False)
            self._see_to()
        finally:
            self.reading.release()

    def look_on(self) -> None:
        """Let others look for what comes: this thread read last, and is about to wait."""
        if self._keeper == threading.get_ident():
            self.look()

    def look(self) -> None:
        """Let whoever attends look for what comes and, where something waits to be written, for room for it."""
        self._keeper = 0
        self._lookout.look(reading=self._takes(), writing=self._client.want_write())

    def go_on(self) -> None:
        """More may be taken than a moment ago."""
        self.look()
        if self._unread:  # which nobody sees who looks at the socket
            self._lookout.call()

    def ring(self) -> None:
        """Let one thread that attends return."""
        self._lookout.ring()

    def reads(self) -> bool:
        """Whether it is the calling thread that reads just now: then it is called back by paho."""
        return self._reader == threading.get_ident()

    # --- for the connection's own thread -----------------------------------------------------------------------------

    def begin(self) -> None:
        """Look at the socket of a new connection."""
        self.fault, self._unread = None, False
        self._lookout.add(self._client.socket())

    def watch(self, timeout_s: float) -> bool:
        """As `attend`, for the thread that is there when no other is; whether there was something to see to."""
        if not self._lookout.watch(timeout_s) and not self._unread:
            return False
        with self.reading:
            self._see_to()
        self.look()
        return True

    def call(self) -> None:
        """Let `watch` return."""
        self._lookout.call()

    def close(self) -> None:
        """When nobody waits any more."""
        self._lookout.close()

    # --- under the lock ----------------------------------------------------------------------------------------------

    def _see_to(self) -> None:
        """Write what waits and read what is there. What goes wrong is left to the connection's own thread."""
        self._reader = threading.get_ident()
        try:
            self._write()
            self._read()
            self._write()
        except Exception as error:  # noqa: BLE001  (it is raised again, and said, where it ends the connection)
            self.fault = error
        finally:
            self._keeper, self._reader = self._reader, 0
        if self.fault is not None or self._client.socket() is None:
            self._lookout.call()

    def _read(self) -> None:
        while self._takes():
            self._client.loop_read(_AT_ONCE)
            self._afterwards()
            # What was read from the socket already, or stands in TLS, is not seen by looking at the socket.
            if not self._pending():
                break
        self._unread = self._pending()

    def _pending(self) -> bool:
        sock = self._client.socket()
        return sock is not None and getattr(sock, "pending", int)() > 0
