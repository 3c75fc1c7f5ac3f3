"""Functions that many tests call and none changes; servers with a sandbox and without."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.bench import Bench, Grounds
from tests.harness.beside import Beside
from tests.harness.broker import Broker
from tests.harness.census import resident_bytes, zombies
from tests.harness.client import Client, new_label
from tests.harness.measured import Measured
from tests.harness.place import Place, open_place
from tests.harness.server import Server
from tests.harness.waiting import eventually

_ECHO = "def main(*args, **kwargs): return [list(args), kwargs]"
_FAILING = """
    def main(message="it broke"):
        helper(message)

    def helper(message):
        raise ValueError(message)
"""


def _deployed(broker: Broker, kind: str, code: str) -> str:
    name = new_label(kind)
    with Client(broker.port) as client:
        client.deploy(name, code)
    return name


@pytest.fixture(scope="session")
def echo(broker: Broker, shared_server: Server) -> str:
    """A function that returns its arguments."""
    return _deployed(broker, "echo", _ECHO)


@pytest.fixture(scope="session")
def failing(broker: Broker, shared_server: Server) -> str:
    """A function that raises `ValueError`, two frames deep."""
    return _deployed(broker, "failing", _FAILING)


@pytest.fixture(scope="session")
def measured() -> Measured:
    """Where the suite writes what it measures."""
    file = os.environ.get("TINYFAAS_TEST_MEASURED")
    return Measured(Path(file) if file else None)


@pytest.fixture(scope="session", params=["bubblewrap", "none"])
def place(grounds: Grounds, measured: Measured, request: pytest.FixtureRequest) -> Iterator[Place]:
    """A server whose workers are in a sandbox, and one on a device without."""
    bench = Bench(grounds)
    place = open_place(bench, boxed=request.param == "bubblewrap")
    pid, before = place.server.pid, resident_bytes(place.server.pid)
    with Beside(place.beside, place.good) as quiet:
        eventually(lambda: len(quiet.times_s) >= 400, "quiet calls")
    yield place
    eventually(lambda: not zombies(pid), "every process to be reaped")
    measured.add("server", boxed=place.boxed, before_bytes=before, after_bytes=resident_bytes(pid),
                 quiet_ms=quiet.slowest_s * 1000, usual_ms=quiet.usual_s * 1000)  # fmt: skip
    bench.clear()
