"""A function that runs until the test lets it go on: no test has to guess how long something takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.harness.client import Client
from tests.harness.server import Server
from tests.harness.waiting import eventually

_WAIT = """
import os, time
_state = os.environ["TINYFAAS_STATE_DIR"]

def pass_gate():
    open(f"{_state}/waiting-{os.getpid()}-{time.monotonic_ns()}", "w").close()
    while not os.path.exists(f"{_state}/open"):
        time.sleep(0.005)
"""
CALL = _WAIT + "\ndef main(value=None):\n    pass_gate()\n    return value\n"
IMPORT = _WAIT + "\npass_gate()\n\ndef main(value=None):\n    return value\n"


class Gate:
    """The gate of one function, in the folder that it may write to."""

    def __init__(self, server: Server, function: str) -> None:
        self._state: Path = server.functions_dir / function / "state"

    def wait_waiting(self, count: int = 1) -> None:
        """Wait until so many calls stand at the gate, or have stood there."""
        eventually(lambda: self.waiting() >= count, f"{count} calls at the gate")

    def waiting(self) -> int:
        """How many calls have come to the gate so far."""
        return len(list(self._state.glob("waiting-*")))

    def open(self) -> None:
        """Let them all go on, and all to come."""
        (self._state / "open").touch()

    def shut(self) -> None:
        """Hold whoever comes from now on; who came before is no longer counted."""
        for file in (self._state / "open", *self._state.glob("waiting-*")):
            file.unlink(missing_ok=True)


def deploy(server: Server, client: Client, function: str, config: Mapping[str, Any] | None = None) -> Gate:
    """Deploy a function that waits in each call and then returns its argument."""
    client.deploy(function, CALL, config=config)
    return Gate(server, function)
