"""RabbitMQ in mosquitto's place, so that we lean on MQTT and not on one broker.

Its limits (3.10, as in Debian 12): MQTT 3.1.1 only. It numbers what it delivers again anew, so that a redelivery can't
be recognised by its packet id: what was running or had just been answered when a connection ended is run again.
"""

from __future__ import annotations

import random

import pytest

from tests.harness import rabbit
from tests.harness.bench import Bench
from tests.harness.client import new_label
from tests.harness.events import results
from tests.harness.lapse import lapse
from tests.harness.load import COUNTING, Load, runs_of
from tests.harness.tally import tally, wait_answered
from tests.harness.waiting import eventually

KILLS = 5
SETTINGS = {"mqtt_protocol": "3.1.1"}


@pytest.fixture
def broker(bench: Bench) -> rabbit.Rabbit:
    if why := rabbit.missing():
        pytest.skip(why)
    return bench.rabbit()


@pytest.mark.timeout(240)
def test_with_rabbitmq_no_request_is_lost_over_kills_of_server_and_broker(
    bench: Bench, broker: rabbit.Rabbit, function: str
) -> None:
    chance = random.Random(20_261_126)
    server = bench.server(broker, SETTINGS).start()
    admin = bench.client(broker, v5=False)
    admin.deploy(function, COUNTING)
    assert admin.call(function, -1) == -1
    client = bench.client(broker, v5=False, topics=("faas/response/invoke/#",), lasting=True)
    load = Load(client, function)
    load.start()
    for _ in range(KILLS):
        lapse(chance.uniform(0.2, 1.0))
        server.kill()
        server.start()
    for end in (broker.stop, broker.kill):
        eventually(lambda: load.sent - load.answered() < 50, "the answers to catch up", timeout_s=60.0)
        end()
        broker.start()
        client.wait_connected()
        before = load.answered()
        eventually(lambda before=before: load.answered() > before, "the load to flow again")  # type: ignore[misc]
    load.stop()
    wait_answered(load)
    counts = tally("RabbitMQ", load, runs_of(server, function))
    counts.say(kills_of_the_server=KILLS, stops_of_the_broker=1, kills_of_the_broker=1)
    assert counts.lost == set()


@pytest.mark.timeout(240)
def test_with_rabbitmq_each_message_calls_each_function_once(bench: Bench, broker: rabbit.Rabbit) -> None:
    server = bench.server(broker, SETTINGS).start()
    client = bench.client(broker, v5=False)
    house, several, all_of_it = (new_label(kind) for kind in ("house", "several", "all"))
    for function, filters in ((several, [f"{house}/+/t", f"{house}/kitchen/#"]), (all_of_it, [f"{house}/#"])):
        config = {"trigger": [{"topic": each, "qos": at} for at, each in enumerate(filters)]}
        client.deploy(function, "def main(event): return event['payload']", config=config)
    for value in range(6):
        client.publish(f"{house}/kitchen/t", str(value), qos=value % 2)
    for function in (several, all_of_it):
        assert sorted(results(client, function, 6)) == list(range(6))
    server.restart()
    client.publish(f"{house}/kitchen/t", "6")
    for function in (several, all_of_it):
        assert sorted(results(client, function, 7)) == list(range(7))
