"""The state folders, copied under load at any instant, start a server that serves what it served then."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from tests.harness.bench import Bench
from tests.harness.client import new_label, upload_body
from tests.harness.lapse import lapse
from tests.harness.load import Load
from tests.harness.server import Server
from tests.harness.tally import tally, wait_answered

COPIES = 10
ECHO = "def main(number): return number"


def copied(server: Server, bench: Bench) -> Path:
    """A copy as a backup makes it, file after file; what vanishes meanwhile is no fault of it."""
    home = bench.grounds.new_folder("copy")
    for folder in (server.data_dir, server.functions_dir):
        subprocess.run(["cp", "--archive", folder, home], check=False, capture_output=True)
    return home


@pytest.mark.timeout(240)
def test_a_copy_taken_at_any_instant_starts_and_serves(bench: Bench, function: str) -> None:
    chance = random.Random(20_261_125)
    broker = bench.broker()
    server = bench.server(broker).start()
    client = bench.client(broker)
    client.deploy(function, ECHO)
    load = Load(bench.client(broker, topics=("faas/response/invoke/#",)), function)
    load.start()
    busy = new_label("busy")
    copies = []
    for number in range(COPIES):
        client.publish(f"faas/admin/upload/{busy}", upload_body(f"def main(): return {number}"))
        lapse(chance.uniform(0.0, 0.4))
        copies.append(copied(server, bench))
    load.stop()
    wait_answered(load)
    served = sum(serves(bench, home, function) for home in copies)
    tally("state copied", load).say(copies=COPIES, served=served)
    assert served == COPIES


def serves(bench: Bench, home: Path, function: str) -> bool:
    """Whether a server that starts on this copy runs the function and knows its history."""
    broker = bench.broker()
    server = bench.server(broker, home=home).start()
    client = bench.client(broker)
    answer = client.invoke(function, 7)
    info = client.request(f"faas/admin/info/{function}")
    every = client.request("faas/admin/list")["functions"]
    others = [client.invoke(name) for name in every if name != function]
    server.stop()
    broker.stop()
    return answer.get("result") == 7 and info["calls"] > 1 and all(each["status"] == "success" for each in others)
