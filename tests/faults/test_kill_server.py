"""The server is killed in the middle of anything: every request has its answer, and one outcome."""

from __future__ import annotations

import random

from tests.harness.bench import Bench
from tests.harness.lapse import lapse
from tests.harness.load import COUNTING, Load, outcomes, runs_of
from tests.harness.tally import tally
from tests.harness.waiting import eventually

KILLS = 20


def test_every_request_is_answered_over_twenty_kills_and_no_answered_one_runs_again(
    bench: Bench, function: str
) -> None:
    seed = 20_261_123
    chance = random.Random(seed)
    broker = bench.broker()
    server = bench.server(broker).start()
    client = bench.client(broker)
    client.deploy(function, COUNTING)
    load = Load(client, function)
    load.start()
    for _ in range(KILLS):
        lapse(chance.uniform(0.05, 0.6))  # the moment is what is tried: it must not be chosen
        server.kill()
        server.start()
    load.stop()
    eventually(lambda: len(load.answers()) == load.sent, "all answers", timeout_s=60.0)
    answers = load.answers()
    runs = runs_of(server, function)
    # A run that a kill cut short before its answer was recorded is repeated; what was answered keeps its one id.
    tally("server killed", load, runs).say(kills=KILLS)
    two_outcomes = [number for number, messages in answers.items() if len(outcomes(messages)) > 1]
    assert {message.body["status"] for messages in answers.values() for message in messages} == {"success"}
    assert two_outcomes == []
    assert len(runs) == load.sent
