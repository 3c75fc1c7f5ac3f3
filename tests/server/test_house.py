"""A simulated house of sensors plays to the chain of samples: what it sent, and what came of it, is counted."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from typing import Any

from tests.harness.bench import Bench
from tests.harness.client import Client
from tests.harness.events import records
from tests.harness.installation import CHECKOUT
from tests.harness.waiting import PATIENCE_S, eventually
from tests.server.test_samples import deploy_sample

CHAIN = ("smooth", "threshold", "alert")
MESSAGES = 1_200
READINGS = ("temperature", "wild", "bad", "odd", "repeat")  # what a thermometer says, one way or another


def sensors(port: int, *more: str) -> subprocess.Popen[bytes]:
    """`scripts/sensors`, without what it would install."""
    return subprocess.Popen(
        [sys.executable, "-m", "scripts.simulator", "--host", "127.0.0.1", "--port", str(port), "--json", *more],
        cwd=CHECKOUT, stdout=subprocess.PIPE,
    )  # fmt: skip


def outcomes(client: Client, function: str) -> Counter[str]:
    return Counter(record.get("code", "success") for record in records(client, function))


def test_every_spike_is_told_once_and_its_end_once_though_the_server_is_killed_meanwhile(bench: Bench) -> None:
    broker = bench.broker()
    server = bench.server(broker, {"history_per_function": 10_000}).start()
    client = bench.client(broker, topics=("faas/#", "house/#", "actuators/#"))
    for name in CHAIN:
        deploy_sample(client, name, name)
    playing = sensors(broker.port, "--seed", "greenhouse", "--count", str(MESSAGES), "--speed", "4000")
    for many in (100, 200):
        eventually(lambda: len(records(client, "smooth")) >= many, f"{many} readings")  # noqa: B023  (called at once)
        server.kill()
        server.start()
    said, _ = playing.communicate(timeout=PATIENCE_S * 2)
    assert playing.returncode == 0
    report: dict[str, Any] = json.loads(said)
    sent = Counter(report["sent"])
    readings = sum(sent[kind] for kind in READINGS)

    def all_recorded() -> bool:
        return sum(outcomes(client, "smooth").values()) >= readings

    eventually(all_recorded, f"{readings} readings to be recorded", PATIENCE_S * 2)
    smoothed = outcomes(client, "smooth")
    assert sum(smoothed.values()) == readings, "none lost, none twice"
    assert smoothed.keys() == {"success", "bad_request", "function_error"}
    assert sent["bad"] <= smoothed["bad_request"] <= sent["bad"] + sent["repeat"]
    assert sent["odd"] <= smoothed["function_error"] <= sent["odd"] + sent["repeat"]

    told = report["spikes"]
    assert told["begun"] >= 2

    def messages() -> Counter[str]:
        texts = {message.payload.decode() for message in client.seen if message.topic == "house/messages"}
        return Counter("too hot" if "is too hot" in text else "fine" for text in texts)

    eventually(lambda: messages() == Counter({"too hot": told["begun"], "fine": told["over"]}), f"{told} to be told")
    fans = {(m.topic, m.payload) for m in client.seen if m.topic.startswith("actuators/")}
    assert len(fans) == told["begun"] + told["over"]
