"""The fork server as the server sees it: one process with the standard modules loaded, that forks all workers.

What is handed over is descriptors alone, see `tinyfaas/child/__main__.py`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from tinyfaas import family, log

logger = log.get("forkserver")

_FOLDER = Path(__file__).parent / "child"
_ANSWER_S = 10.0
_INTERPRETER = os.path.realpath(sys.executable)  # that of the environments too, not that of our own


class ForkServer:
    """Started when it is first needed, and again when it was lost."""

    def __init__(self) -> None:
        self._asking = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    @property
    def pid(self) -> int | None:
        """Its process id, while it runs."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start it; raises `OSError`."""
        with self._asking:
            self._start()

    def fork(self, fds: Mapping[str, int]) -> int:
        """Fork a worker that has these descriptors, by their letters; returns its process id. Raises `OSError`."""
        with self._asking:
            if self._control is None:
                self._start()
            try:
                return family.adopt(lambda: self._ask(fds))
            except ConnectionError as error:
                logger.error("fork_server_lost", error=str(error))
                self._end()
                self._start()
                return family.adopt(lambda: self._ask(fds))

    def close(self) -> None:
        """End it; its workers live on."""
        with self._asking:
            self._end()

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = family.spawn(
                [_INTERPRETER, "-I", "-S", "-X", "utf8", str(_FOLDER), str(theirs.fileno())],
                stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True, cwd="/",
                env={"PATH": os.defpath, "LANG": "C.UTF-8"},
            )  # fmt: skip
        ours.settimeout(_ANSWER_S)
        self._control = ours

    def _ask(self, fds: Mapping[str, int]) -> int:
        assert self._control is not None
        try:
            socket.send_fds(self._control, ["".join(fds).encode("ascii")], list(fds.values()))
            said = self._control.recv(1024)
        except TimeoutError:
            raise ConnectionError("it did not answer") from None
        if not said:
            raise ConnectionError("it has ended")
        if said.startswith(b"!"):
            raise OSError(said[1:].decode("utf-8", "replace"))
        return int(said)

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()
            family.forget(self._process.pid)
            self._process = None
