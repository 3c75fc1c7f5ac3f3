"""Functions that many tests call and none changes."""

from __future__ import annotations

import pytest

from tests.harness.broker import Broker
from tests.harness.client import Client, new_label
from tests.harness.server import Server

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
