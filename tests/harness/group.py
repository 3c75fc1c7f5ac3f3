"""Several servers that share the work of one broker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tests.harness.bench import Bench
from tests.harness.broker import Broker
from tests.harness.client import Client, Message, new_label
from tests.harness.load import Load
from tests.harness.server import Server
from tests.harness.waiting import eventually

GROUP = {"node_group": "kitchen"}
LEAST_SHARE = 0.2


def nodes(bench: Bench, broker: Broker, count: int, settings: Mapping[str, Any] | None = None) -> list[Server]:
    """So many running servers of one group."""
    return [bench.server(broker, {**GROUP, **(settings or {})}).start() for _ in range(count)]


def deploy(
    client: Client, servers: Iterable[Server], function: str, code: str, config: Mapping[str, Any] | None = None
) -> None:
    """Deploy a function on each of these servers and no other."""
    for server in servers:
        answer = client.upload(function, code, config=config, node=server.node)
        assert (answer["status"], answer["node"]) == ("ok", server.node), answer


def call_many(client: Client, function: str, count: int) -> list[list[Message]]:
    """The answers to each of so many calls, sent without waiting; returned when each has one and all has come."""
    labels = [new_label("call") for _ in range(count)]
    for number, label in enumerate(labels):
        client.publish(f"faas/invoke/{function}", {"args": [number], "request_id": label})
    for label in labels:
        client.answer_to(label)
    client.settle()
    return [client.answers(label) for label in labels]


def shares(answers: Iterable[Iterable[Message]]) -> Counter[str]:
    """How many calls each node answered first."""
    return Counter(next(iter(messages)).body["node"] for messages in answers)


def even_shares(load: Load, client: Client, nodes: Iterable[str]) -> dict[str, float]:
    """Which part of the requests sent from now on each node answers, over as many as tell."""
    start, seen = load.answered(), len(client.seen)
    eventually(lambda: load.answered() > start + 300, "the load to flow", timeout_s=60.0)
    counts = shares([message] for message in client.seen[seen:] if message.topic.startswith("faas/response/invoke/"))
    return {node: counts[node] / counts.total() for node in nodes}
