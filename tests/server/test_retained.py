"""A retained message on an invoke topic runs once per publication, whatever connects again."""

from __future__ import annotations

import pytest

from tests.harness.bench import Bench
from tests.harness.broker import Broker
from tests.harness.client import Client
from tests.harness.load import COUNTING, runs_of
from tests.harness.server import Server
from tests.harness.waiting import eventually

protocols = pytest.mark.parametrize("protocol", ["5", "3.1.1"])


def _reconnected(server: Server, broker: Broker, client: Client, function: str) -> dict[int, int]:
    """How often each number was run, after the server and the broker were both started again."""
    server.restart()
    broker.stop()
    broker.start()
    client.wait_connected()
    server.log.wait(event="disconnected")
    assert client.call(function, 999) == 999
    return dict(runs_of(server, function))


@protocols
def test_what_was_published_while_the_server_served_runs_once(bench: Bench, function: str, protocol: str) -> None:
    broker = bench.broker()
    server = bench.server(broker, {"mqtt_protocol": protocol}).start()
    client = bench.client(broker)
    client.deploy(function, COUNTING)
    client.publish(f"faas/invoke/{function}", {"args": [1], "request_id": "live"}, retain=True)
    client.answer_to("live")
    assert _reconnected(server, broker, client, function) == {1: 1, 999: 1}


@protocols
def test_what_was_published_before_the_server_came_runs_once(bench: Bench, function: str, protocol: str) -> None:
    broker = bench.broker()
    home = bench.grounds.new_folder("home")
    server = bench.server(broker, {"mqtt_protocol": protocol}, home).start()
    client = bench.client(broker)
    client.deploy(function, COUNTING)
    server.stop()
    newcomer = bench.server(broker, {"mqtt_protocol": protocol}, home)  # another name, so another session
    client.publish(f"faas/invoke/{function}", {"args": [1], "request_id": "early"}, retain=True, wait=True)
    newcomer.start()
    client.answer_to("early")
    assert _reconnected(newcomer, broker, client, function) == {1: 1, 999: 1}


@protocols
def test_the_same_words_published_again_run_again(bench: Bench, function: str, protocol: str) -> None:
    broker = bench.broker()
    server = bench.server(broker, {"mqtt_protocol": protocol}).start()
    client = bench.client(broker)
    client.deploy(function, COUNTING)
    for times in (1, 2):
        client.publish(f"faas/invoke/{function}", {"args": [1]}, retain=True)
        eventually(lambda times=times: sum(1 for m in client.seen if m.body.get("result") == 1) == times, "its answer")  # type: ignore[misc]
    assert runs_of(server, function) == {1: 2}
