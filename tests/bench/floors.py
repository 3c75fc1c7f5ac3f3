"""What bounds everything: the broker alone, bare paho, a bare interpreter."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.contestants import Contestant
from tests.bench.jobs import middle
from tests.bench.trees import Memory, memory
from tests.harness.account import Account
from tests.harness.installation import Installation

_RESPONDER = Path(__file__).with_name("responder.py")
_PACKAGES = "import paho.mqtt.client, psutil, sdnotify, structlog"
_BURN = "import sys\nfor _ in range(int(sys.argv[1])):\n    x = 0\n    for i in range(int(sys.argv[2])): x += i * i"

ECHO = Contestant("the broker alone", "bench/loop", "bench/loop")  # the generator hears what it says itself


class Floors:
    """Bare programs in the server's own interpreter and as its account."""

    def __init__(self, installation: Installation, account: Account) -> None:
        self._python = str(installation.python)
        self._account = account

    @contextmanager
    def paho(self, port: int) -> Iterator[Contestant]:
        """The bare responder, while it runs."""
        topics = ("bench/floor/request", "bench/floor/answer")
        process = self._start(_RESPONDER.read_text(encoding="utf-8"), str(port), *topics)
        try:
            floor = Contestant("bare paho", *topics, process.pid)
            floor.wait_answers(port)
            yield floor
        finally:
            _end(process)

    def start_s(self, code: str = "pass") -> float:
        """Seconds from the start of an interpreter to its end."""
        begun = time.perf_counter()
        process = self._start(code)
        if process.wait():
            raise RuntimeError(f"python -I -c {code!r} failed")
        return time.perf_counter() - begun

    def venv_s(self, folder: Path) -> float:
        """Seconds that a virtual environment with pip takes, as whoever builds one at each upload pays."""
        begun = time.perf_counter()
        subprocess.run([self._python, "-I", "-m", "venv", folder], check=True, cwd="/", **self._account.popen())
        return time.perf_counter() - begun

    def burn_s(self, processes: int, rounds: int, steps: int) -> float:
        """Seconds that so many interpreters at once take for `rounds` times `steps` each."""
        begun = time.perf_counter()
        started = [self._start(_BURN, str(rounds), str(steps)) for _ in range(processes)]
        for process in started:
            process.wait()
        return time.perf_counter() - begun

    def packages(self) -> Memory:
        """The memory of an interpreter that has imported the server's four packages."""
        return self._memory_of(_PACKAGES)

    def packages_start_s(self) -> float:
        """Seconds that takes, to the end of the interpreter."""
        return middle([self.start_s(_PACKAGES) for _ in range(5)])

    def interpreter(self) -> Memory:
        """The memory of one bare interpreter more, where three run already."""
        return self._memory_of("pass", beside=3)

    def _memory_of(self, code: str, beside: int = 0) -> Memory:
        waiting = f"{code}\nprint(flush=True)\nimport sys; sys.stdin.read()"
        started = [self._start(waiting, pipes=True) for _ in range(beside + 1)]
        try:
            for process in started:
                assert process.stdout is not None
                process.stdout.readline()
            return memory(started[-1].pid)
        finally:
            for process in started:
                _end(process)

    def _start(self, code: str, *arguments: str, pipes: bool = False) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE if pipes else subprocess.DEVNULL
        return subprocess.Popen(
            [self._python, "-I", "-c", code, *arguments], cwd="/", stdin=pipe, stdout=pipe, start_new_session=True,
            **self._account.popen(),
        )  # fmt: skip


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()
