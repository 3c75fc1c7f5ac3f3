"""The command line as processes: run to their end, or going on, with pipes or on a terminal of their own."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.harness.waiting import PATIENCE_S

Ended = subprocess.CompletedProcess[str]


def environment(port: int, **variables: str) -> dict[str, str]:
    """Of this process's variables all but ours; the broker's port and `variables`."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("TINYFAAS_", "NO_COLOR"))}
    return {**environ, "TINYFAAS_MQTT_HOST": "127.0.0.1", "TINYFAAS_MQTT_PORT": str(port), **variables}


def run(port: int, *argv: str, stdin: str = "", **variables: str) -> Ended:
    """Run a command to its end."""
    return run_by(Path(sys.executable), {}, port, *argv, stdin=stdin, **variables)


def run_by(
    python: Path, more: Mapping[str, Any], port: int, *argv: str, stdin: str = "", **variables: str
) -> Ended:  # fmt: skip
    """The same by another Python; `more` are further arguments of `subprocess`, such as an account."""
    return subprocess.run(
        [python, "-m", "tinyfaas", *argv], env=environment(port, **variables), input=stdin, capture_output=True,
        text=True, check=False, timeout=90.0, **more,
    )  # fmt: skip


class Running:
    """A command that goes on, on a terminal or with its output in pipes; `text` grows with what it prints."""

    def __init__(self, port: int, *argv: str, terminal: bool = False, rows: int = 40, columns: int = 160,
                 **variables: str) -> None:  # fmt: skip
        self.text = ""
        # On a terminal of its own, Ctrl-C that is typed there reaches it.
        new_session = ["setsid", "--ctty"] if terminal else ["setsid"]
        command = [*new_session, sys.executable, "-u", "-m", "tinyfaas", *argv]
        environ = environment(port, TERM="xterm", **variables)
        environ.pop("COLUMNS", None)
        environ.pop("LINES", None)
        self._ours, theirs = pty.openpty() if terminal else os.pipe()
        if terminal:
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._process = subprocess.Popen(
            command, env=environ, stdin=theirs if terminal else subprocess.DEVNULL, stdout=theirs, stderr=theirs
        )
        os.close(theirs)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._ours)

    def wait(self, *wanted: str, since: int = 0) -> str:
        """Wait until it has printed all of these texts since `text[since:]`; returns that."""
        deadline_s = time.monotonic() + PATIENCE_S
        while any(each not in self.text[since:] for each in wanted):
            assert time.monotonic() < deadline_s, f"waited in vain for {wanted} in:\n{self.text[since:]}"
            assert self._read(0.1), f"it has ended without {wanted}:\n{self.text[since:]}"
        return self.text[since:]

    def lines(self) -> list[dict[str, Any]]:
        """What it printed, each line a JSON object."""
        return [json.loads(line) for line in self.text.splitlines() if line.startswith("{")]

    def type(self, keys: str) -> None:
        """Hit keys on its terminal."""
        os.write(self._ours, keys.encode())

    def interrupt(self) -> int:
        """Ctrl-C; returns its exit status."""
        self._process.send_signal(signal.SIGINT)
        return self.end()

    def end(self) -> int:
        """Wait for its end, with all that it prints; returns its exit status."""
        deadline_s = time.monotonic() + PATIENCE_S
        while self._read(0.1):
            assert time.monotonic() < deadline_s, f"it does not end:\n{self.text}"
        return self._process.wait(PATIENCE_S)

    def _read(self, timeout_s: float) -> bool:
        """Take what is there; False at the end."""
        if not select.select((self._ours,), (), (), timeout_s)[0]:
            return True
        try:
            data = os.read(self._ours, 65_536)
        except OSError as error:
            if error.errno == errno.EIO:  # so ends a terminal
                return False
            raise
        self.text += data.decode("utf-8", "replace")
        return bool(data)
