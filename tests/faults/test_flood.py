"""Far more at once than can be run: the memory it costs, and what another function notices of it."""

from __future__ import annotations

import statistics
import subprocess
from dataclasses import dataclass

import psutil
import pytest

from tests.harness.bench import Bench
from tests.harness.broker import Broker
from tests.harness.client import Client, Message, new_label
from tests.harness.lapse import lapse
from tests.harness.server import Server
from tests.harness.waiting import eventually

SLOW = """
    import time
    def main(number):
        time.sleep(0.02)
        return number
"""
QUIET = "def main(number): return number"
FLOOD = 50_000
MOST_BYTES = 40_000_000  # for 20,000 requests
CALLS = 20


@dataclass
class Quiet:
    """Calls of another function, once a second: how long each took since it had reached the server."""

    asked: int
    since_reached_ms: list[float]

    @property
    def late(self) -> int:
        """Those answered later than within a second."""
        return sum(each > 1000 for each in self.since_reached_ms)

    def percentile(self, percent: int) -> float:
        """The duration that so many in a hundred do not exceed."""
        return statistics.quantiles(self.since_reached_ms, n=100, method="inclusive")[percent - 1]


def rss(server: Server) -> int:
    return int(psutil.Process(server.pid).memory_info().rss)


def held(client: Client) -> int:
    return int(client.request("faas/admin/status")["queue"]["held"])


def flood(broker: Broker, function: str, count: int) -> None:
    """Publish so many as fast as can be; it ends when the broker has acknowledged all."""
    command = ["mosquitto_pub", "-p", str(broker.port), "-q", "1", "-t", f"faas/invoke/{function}", "-l"]
    lines = "".join(f'{{"args": [{number}]}}\n' for number in range(count))
    subprocess.run(command, input=lines.encode(), check=True)


def call_once_a_second(client: Client, function: str) -> Quiet:
    requests = []
    for number in range(CALLS):
        requests.append(new_label("quiet"))
        client.publish(f"faas/invoke/{function}", {"args": [number], "request_id": requests[-1]})
        lapse(1.0)
    answers: list[Message] = [client.answer_to(request) for request in requests]
    return Quiet(CALLS, [float(each.body["queued_ms"]) + float(each.body["duration_ms"]) for each in answers])


@pytest.mark.timeout(180)
def test_twenty_thousand_waiting_are_cheap_and_another_function_is_served_meanwhile(
    bench: Bench, function: str
) -> None:
    broker = bench.broker()
    server = bench.server(broker, {"queue_max_requests": 60_000}).start()
    client, quiet = bench.client(broker, topics=("faas/response/admin/#", "faas/response/invoke/quiet")), "quiet"
    client.deploy(function, SLOW)
    client.deploy(quiet, QUIET)
    client.call(quiet, 0)
    before = rss(server)
    flood(broker, function, 20_000)
    eventually(lambda: held(client) > 15_000, "the flood to reach the server")
    growth_of_20_000 = rss(server) - before
    flood(broker, function, FLOOD - 20_000)
    calls = call_once_a_second(client, quiet)
    print(
        f"flood, window 60000: sent={FLOOD} held={held(client)} quiet={calls.asked} late={calls.late} "
        f"p50_ms={calls.percentile(50):.1f} p99_ms={calls.percentile(99):.1f} "
        f"growth_of_20000_mb={growth_of_20_000 / 1e6:.1f} growth_mb={(rss(server) - before) / 1e6:.1f}"
    )
    assert growth_of_20_000 < MOST_BYTES
    assert calls.late == 0


@pytest.mark.timeout(180)
def test_a_flood_beyond_the_window_stays_with_the_broker_and_leaves_administration_alone(
    bench: Bench, function: str
) -> None:
    broker = bench.broker()
    server = bench.server(broker).start()
    client = bench.client(broker, topics=("faas/response/#",))
    client.deploy(function, SLOW)
    client.deploy("quiet", QUIET)
    client.call("quiet", 0)
    before = rss(server)
    flood(broker, function, FLOOD)
    labels = [new_label("quiet") for _ in range(CALLS)]
    asked = 0
    for label in labels:
        client.publish("faas/invoke/quiet", {"args": [1], "request_id": label})
        assert client.request("faas/admin/list")["status"] == "ok"
        asked += 1
        lapse(1.0)
    answered = sum(bool(client.answers(label)) for label in labels)
    most = held(client)
    print(
        f"flood, window 10000: sent={FLOOD} held={most} quiet={asked} answered_meanwhile={answered} "
        f"admin_answered={asked} growth_mb={(rss(server) - before) / 1e6:.1f}"
    )
    assert most <= 12_600  # a quarter beyond the bound the reading stops, within some packets
    assert rss(server) - before < MOST_BYTES
