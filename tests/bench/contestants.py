"""Who takes a load: two topics, and a name for the tables."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.drive import measure
from tests.bench.jobs import Job, Outcome


@dataclass(frozen=True)
class Contestant:
    """Something that answers each request on one topic by a message on another, with its `request_id`."""

    name: str
    request_topic: str
    answer_topic: str
    pid: int = 0  # the top of its processes, where somebody asks for its memory
    args: str = '"x"'
    folder: Path = Path()  # where it keeps what it writes, as far as that is looked at

    def job(self, port: int, **load: Any) -> Job:
        """A load on it."""
        return Job(port, self.request_topic, self.answer_topic, **{"args": self.args, **load})

    def load(self, port: int, **load: Any) -> Outcome:
        """Put a load on it from beginning to end."""
        return measure(self.job(port, **load))

    def wait_answers(self, port: int, timeout_s: float = 60.0) -> None:
        """Wait until it answers at all; raises `TimeoutError`."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if not self.load(port, count=1, patience_s=1.0, linger_s=0.0).lost:
                return
        raise TimeoutError(f"{self.name} does not answer")
