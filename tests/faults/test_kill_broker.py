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
SLOWER = "    import time" + COUNTING.replace(
    "return number", "time.sleep(0.008)\n        return number"
)  # so that much waits
SAVING = {"each second": "autosave_interval 1\n", "each half hour": ""}  # the latter is stock: a kill costs the session


@pytest.mark.timeout(240)
@pytest.mark.parametrize("saving", SAVING)
def test_a_killed_broker_loses_only_what_it_had_not_saved(bench: Bench, function: str, saving: str) -> None:
    chance = random.Random(20_261_124)
    broker = bench.broker(more=SAVING[saving])
    server = bench.server(broker).start()
    admin = bench.client(broker)
    admin.deploy(function, SLOWER)
    client = bench.client(broker, topics=ANSWERS, lasting=True)
    load = Load(client, function)
    load.start()
    in_its_hands: set[int] = set()
    for _ in range(KILLS):
        lapse(chance.uniform(1.0, 3.0))
        before = server.log.mark()
        broker.kill()
        in_its_hands |= load.accepted() - load.answers().keys()
        broker.start()
        server.log.wait(before, event="connected", client_id=f"tinyfaas-{server.node}")
        # Until now a broker that forgot the server's session took requests for which it knew no subscriber.
        in_its_hands |= load.accepted() - load.answers().keys()
        server.log.wait(before, event="connected", client_id=f"tinyfaas-{server.node}-admin")
        client.wait_connected()
        admin.wait_connected()
    load.stop()
    wait_answered(load, but=in_its_hands)
    eventually(lambda: admin.request("faas/admin/status")["queue"]["held"] == 0, "the server to hold nothing")
    client.settle()
    runs = runs_of(server, function)
    counts = tally(f"broker killed, saving {saving}", load, runs)
    beyond = counts.lost - in_its_hands
    counts.say(
        kills=KILLS,
        in_its_hands=len(in_its_hands),
        lost_by_the_broker=len(counts.lost) - len(beyond),
        of_these_run=len(counts.lost & runs.keys()),
        lost_beyond=len(beyond),
    )
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
