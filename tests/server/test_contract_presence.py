"""The presence of a node: retained, and the last will."""

from __future__ import annotations

import re

from tests.harness.bench import Bench
from tests.harness.client import Client, wait_presence
from tests.harness.server import Server

KEYS = {"state", "node", "version", "instance", "since"}


def test_a_server_says_that_it_is_online_to_whoever_asks_later(client: Client, server: Server) -> None:
    message = client.wait_topic(f"faas/node/{server.node}")
    assert message.retain is True
    assert set(message.body) == KEYS
    assert (message.body["state"], message.body["node"]) == ("online", server.node)
    assert message.body["version"] == client.request("faas/admin/status")["version"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", message.body["since"])


def test_a_server_that_stops_says_that_it_is_offline(bench: Bench) -> None:
    broker = bench.broker()
    server = bench.server(broker).start()
    online = wait_presence(broker.port, server.node, "online")
    assert server.stop() == 0
    offline = wait_presence(broker.port, server.node, "offline")
    assert offline == {**online, "state": "offline"}


def test_the_will_says_it_for_a_server_that_was_killed(bench: Bench) -> None:
    broker = bench.broker()
    server = bench.server(broker).start()
    client = bench.client(broker)
    online = wait_presence(broker.port, server.node, "online")
    server.kill()
    client.wait_topic(f"faas/node/{server.node}", state="offline")  # at once, to who is there
    assert wait_presence(broker.port, server.node, "offline") == {**online, "state": "offline"}


def test_the_instance_changes_with_every_start(bench: Bench) -> None:
    broker = bench.broker()
    server = bench.server(broker).start()
    first = server.instance
    server.restart()
    second = server.instance
    server.kill()
    server.start()
    assert len({first, second, server.instance}) == 3


def test_the_presence_is_restored_after_the_broker_was_away(bench: Bench) -> None:
    broker = bench.broker()
    server = bench.server(broker).start()
    broker.kill()
    server.log.wait(event="disconnected")
    broker.start()
    assert wait_presence(broker.port, server.node, "online")["instance"] == server.instance
