"""Loads as processes: nothing that this process does gets into what they measure."""

from __future__ import annotations

import subprocess
import sys
from types import TracebackType

from tests.bench.jobs import Job, Outcome, read_outcome
from tests.harness.installation import CHECKOUT


class Driven:
    """A load that runs; its outcome is there when it is over."""

    def __init__(self, job: Job) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.generator"], cwd=CHECKOUT,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdin is not None
        self._process.stdin.write(job.to_json())
        self._process.stdin.close()
        self._process.stdin = None

    def __enter__(self) -> Driven:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def outcome(self) -> Outcome:
        """Wait for its end."""
        assert self._process.stdout is not None
        data = self._process.stdout.read()
        if self._process.wait():
            raise RuntimeError("the load generator failed; what it printed above says why")
        return read_outcome(data)


def measure(job: Job) -> Outcome:
    """Run a load from beginning to end."""
    with Driven(job) as driven:
        return driven.outcome()
