"""The broker dies or goes away under load. What it had accepted and not yet saved is its own loss, counted apart."""

from __future__ import annotations

import random

import pytest

from tests.harness.bench import Bench
from tests.harness.lapse import lapse
from tests.harness.load import COUNTING, Load, runs_of
from tests.harness.tally import tally, wait_answered
from tests.harness.waiting import eventually

KILLS = 5
AWAY_S = 30.0
ANSWERS = ("faas/response/invoke/#", "faas/marker/#")
SAVES = "autosave_interval 1\n"  # each second; stock mosquitto saves every half hour, and a kill costs all since


@pytest.mark.timeout(240)
def test_a_killed_broker_loses_only_what_it_had_not_saved(bench: Bench, function: str) -> None:
    chance = random.Random(20_261_124)
    broker = bench.broker(more=SAVES)
    server = bench.server(broker).start()
    admin = bench.client(broker)
    admin.deploy(function, COUNTING)
    client = bench.client(broker, topics=ANSWERS, lasting=True)
    load = Load(client, function)
    load.start()
    in_its_hands: set[int] = set()
    for _ in range(KILLS):
        lapse(chance.uniform(1.0, 3.0))
        broker.kill()
        in_its_hands |= load.accepted() - load.answers().keys()
        broker.start()
        client.wait_connected()
    load.stop()
    wait_answered(load, but=in_its_hands)
    eventually(lambda: admin.request("faas/admin/status")["queue"]["held"] == 0, "the server to hold nothing")
    client.settle()
    counts = tally("broker killed", load, runs_of(server, function))
    beyond = counts.lost - in_its_hands
    counts.say(kills=KILLS, lost_by_the_broker=len(counts.lost) - len(beyond), lost_beyond=len(beyond))
    assert beyond == set()
    assert server.process is not None
    assert server.process.poll() is None


@pytest.mark.timeout(240)
def test_nothing_is_lost_while_the_broker_is_stopped_for_half_a_minute(bench: Bench, function: str) -> None:
    broker = bench.broker()
    server = bench.server(broker).start()
    bench.client(broker).deploy(function, COUNTING)
    client = bench.client(broker, topics=ANSWERS, lasting=True)
    load = Load(client, function)
    load.start()
    lapse(2.0)
    broker.stop()
    accepted = load.accepted()
    sent = load.sent
    lapse(AWAY_S)
    broker.start()
    lapse(2.0)
    load.stop()
    wait_answered(load)
    counts = tally("broker stopped", load, runs_of(server, function))
    # What our own client had sent and got no receipt for, it sends again: a new message, which may run a second time.
    sent_again = set(range(sent)) - accepted
    counts.say(away_s=AWAY_S, sent_again_by_the_client=len(sent_again & counts.run_twice))
    assert counts.lost == set()
    assert counts.run_twice <= sent_again
