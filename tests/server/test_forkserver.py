"""The fork server may be killed or stand still: calls go on, and the next worker starts."""

from __future__ import annotations

import os
import signal

import pytest

from tests.harness.bench import Bench
from tests.harness.census import fork_server
from tests.harness.client import Client
from tests.harness.server import Server
from tests.harness.waiting import eventually

COUNTS = """
    import itertools, os, time
    count = itertools.count(1)
    def main(wait_for=None):
        while wait_for and not os.path.exists(wait_for): time.sleep(0.01)
        return next(count)
"""


@pytest.fixture
def own(bench: Bench, function: str) -> tuple[Server, Client]:
    """A server of the test's own, with a function that has a warm worker."""
    broker = bench.broker()
    server, client = bench.server(broker, {"workers": 3}).start(), bench.client(broker)
    client.deploy(function, COUNTS)
    assert client.call(function) == 1
    return server, client


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_fork_server_that_is_lost_is_replaced_and_no_call_with_it(
    own: tuple[Server, Client], function: str, number: int
) -> None:
    server, client = own
    old = fork_server(server.pid)
    client.publish(f"faas/invoke/{function}", {"request_id": "runs", "args": ["go"]})
    eventually(lambda: client.request("faas/admin/status")["workers"]["busy"] == 1, "the call to run")
    os.kill(old, number)
    client.deploy(f"{function}-2", COUNTS)
    assert client.call(f"{function}-2") == 1
    (server.functions_dir / function / "state" / "go").touch()
    assert client.answer_to("runs").body["result"] == 2
    assert client.call(function) == 3  # the same worker
    assert fork_server(server.pid) != old
    assert server.log.records(event="fork_server_lost")


def test_an_environment_of_another_python_says_so(own: tuple[Server, Client], function: str) -> None:
    server, client = own
    (packages,) = (server.functions_dir / function / "environments").glob("*/lib/python3*")
    packages.rename(packages.with_name("python3.1"))
    server.restart()
    answer = client.invoke(function)
    assert answer["code"] == "crashed", answer
    assert "its environment was not built for" in answer["error"]
    assert "upload it again" in answer["error"]
    client.deploy(f"{function}-2", COUNTS)
    assert client.call(f"{function}-2") == 1
