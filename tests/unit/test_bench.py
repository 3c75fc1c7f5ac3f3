"""The load generator of scripts/bench tells the truth; how fast anything is, no test asks."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from tests.bench.drive import measure
from tests.bench.findings import Findings, read_findings
from tests.bench.jobs import Job, Outcome, percentile, read_outcome
from tests.bench.report import for_page, for_terminal
from tests.bench.trees import memory, tree
from tests.harness.broker import Broker
from tests.harness.waiting import eventually

Answer = Callable[[int, bytes], list[bytes]]  # the number of a request and its payload → what is answered
REQUEST, ANSWER = "load/request", "load/answer"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(tmp_path_factory.mktemp("broker")).start()
    yield broker
    broker.stop()


@pytest.fixture
def responder(broker: Broker) -> Iterator[Callable[[Answer], None]]:
    """Answers one request after the other, in the way it is told."""
    client = Client(CallbackAPIVersion.VERSION2)

    def begin(answer: Answer) -> None:
        subscribed: list[int] = []
        came = iter(range(1_000_000))

        def on_message(_client: Client, _data: Any, message: MQTTMessage) -> None:
            for payload in answer(next(came), bytes(message.payload)):
                client.publish(ANSWER, payload, message.qos)

        def on_connect(*_: Any) -> None:
            client.subscribe(REQUEST, 1)

        client.on_message = on_message
        client.on_connect = on_connect
        client.on_subscribe = lambda *_: subscribed.append(1)
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        eventually(lambda: subscribed, "the responder's subscription")

    yield begin
    client.disconnect()
    client.loop_stop()


def load(broker: Broker, **how: Any) -> Outcome:
    return measure(Job(broker.port, REQUEST, ANSWER, **{"patience_s": 0.5, **how}))


@pytest.mark.parametrize("qos", [0, 1])
def test_a_closed_loop_matches_every_answer(broker: Broker, responder: Callable[[Answer], None], qos: int) -> None:
    responder(lambda _number, payload: [payload])
    outcome = load(broker, count=50, in_flight=8, qos=qos)
    assert (outcome.sent, outcome.answered, len(outcome.latencies_s)) == (50, 50, 50)
    assert not outcome.complaints()
    assert outcome.strays == 0


def test_a_closed_loop_has_no_more_unanswered_than_it_may(
    broker: Broker, responder: Callable[[Answer], None]
) -> None:  # fmt: skip
    held: list[bytes] = []

    def answer_in_fours(_number: int, payload: bytes) -> list[bytes]:
        held.append(payload)
        if len(held) < 4:
            return []
        released, held[:] = held[:], []
        return released

    responder(answer_in_fours)
    assert load(broker, count=40, in_flight=4).lost == 0
    assert load(broker, count=40, in_flight=3).answered == 0  # the fourth is never sent


def test_what_is_lost_and_what_comes_twice_is_counted(broker: Broker, responder: Callable[[Answer], None]) -> None:
    times = {3: 0, 17: 0, 5: 2, 9: 3}
    responder(lambda number, payload: [payload] * times.get(number, 1))
    outcome = load(broker, count=30, in_flight=8)
    assert (outcome.sent, outcome.lost, outcome.doubled, outcome.answered) == (30, 2, 3, 28)
    assert outcome.complaints() == "2 lost, 3 doubled"


def test_the_last_answer_may_be_the_one_that_comes_twice(broker: Broker, responder: Callable[[Answer], None]) -> None:
    responder(lambda number, payload: [payload] * (2 if number == 9 else 1))
    assert load(broker, count=10).doubled == 1


def test_errors_and_messages_of_others_are_no_answers_like_others(
    broker: Broker, responder: Callable[[Answer], None]
) -> None:  # fmt: skip
    failure = b'"status": "error", "args"'
    responder(lambda number, payload: [payload.replace(b'"args"', failure) if number < 3 else payload, b"{}"])
    outcome = load(broker, count=10)
    assert (outcome.failed, outcome.strays, outcome.lost) == (3, 10, 0)


def test_in_an_open_loop_a_latency_counts_from_when_the_request_was_due(
    broker: Broker, responder: Callable[[Answer], None]
) -> None:
    stall_s, per_second, stalled = 0.5, 100, 5

    def answer(number: int, payload: bytes) -> list[bytes]:
        if number == stalled:
            time.sleep(stall_s)  # all that are due meanwhile wait, and their waiting counts
        return [payload]

    responder(answer)
    outcome = load(broker, count=20, rate=per_second)
    waits = [stall_s - (number - stalled) / per_second for number in range(stalled, 20)]
    assert outcome.lost == 0
    # Due at the same moments, answered after the pause: each latency is at least what was left of it.
    assert all(seen >= wait - 0.02 for seen, wait in zip(outcome.latencies_s[5:], sorted(waits), strict=True))


def test_an_open_loop_keeps_its_rate_whatever_comes_back(broker: Broker, responder: Callable[[Answer], None]) -> None:
    responder(lambda _number, _payload: [])
    outcome = load(broker, rate=200, warmup_s=0, duration_s=0.5)
    assert 90 <= outcome.sent <= 101
    assert outcome.lost == outcome.sent


def test_a_request_has_the_size_that_was_asked_for(broker: Broker, responder: Callable[[Answer], None]) -> None:
    sizes: list[int] = []

    def answer(_number: int, payload: bytes) -> list[bytes]:
        sizes.append(len(payload))
        return [payload]

    responder(answer)
    for size in (200, 100_000):
        assert load(broker, count=3, size=size).lost == 0
    assert sizes == [200] * 3 + [100_000] * 3


def test_percentiles_are_values_that_were_seen() -> None:
    thousand = array("d", range(1, 1001))
    assert [percentile(thousand, percent) for percent in (50, 90, 99, 99.9, 100)] == [500, 900, 990, 999, 1000]
    assert percentile([7.0], 99.9) == 7.0
    assert percentile([1.0, 2.0], 0) == 1.0
    assert math.isnan(percentile([], 50))


def test_an_outcome_survives_its_way_between_processes() -> None:
    outcome = Outcome(3, 1, 0, 0, 0, 2.0, 2, 0.001, 0.5, array("d", [0.25, 0.5]))
    assert read_outcome(outcome.dump()) == outcome
    assert outcome.throughput == 1.0


def test_a_tree_has_the_children_of_children() -> None:
    grandchild = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen([sys.executable, "-c", grandchild], stdin=subprocess.PIPE) as child:
        eventually(lambda: len(tree(child.pid)) == 2, "the child of the child")
        assert tree(os.getpid())[0] == os.getpid()
        assert set(tree(child.pid)) < set(tree(os.getpid()))
        assert all(memory(pid).rss >= memory(pid).pss > 0 for pid in tree(child.pid))
        child.communicate(b"\n")


def test_the_page_shows_what_was_judged_and_what_went_wrong(tmp_path: Path) -> None:
    findings = Findings(conditions={"cores": "2"})
    findings.judge("echo", "1 ms", "2 ms", 2.0, "≤", 1.5, "×")
    findings.judge("memory", "–", "30 MB", 30.0, "≤", 32, "MB")
    findings.table("Echo", "How it went.", ("", "p50 ms"), [("ours", "2")])
    findings.curve("throughput", "ours", [(1, 100.0)])
    findings.complaints.append("3 lost")
    (tmp_path / "last.json").write_text(findings.to_json())
    read = read_findings((tmp_path / "last.json").read_text())
    page = for_page(read, drawn=["throughput"])
    assert "| echo | 1 ms | 2 ms | 2.00 × | ≤ 1.5 × | no |" in page
    assert "| memory | – | 30 MB | – | ≤ 32 MB | yes |" in page
    assert "1 of 2 are." in page
    assert "- 3 lost" in page
    assert "(performance-throughput.png)" in page
    assert "performance-latency" not in page
    assert "wrong: 3 lost" in for_terminal(read)
