"""Every client on docs/clients.md, run as it stands there; only the address is another."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.bench import Bench, Grounds
from tests.harness.broker import Broker
from tests.harness.client import Client
from tests.harness.installation import CHECKOUT

PAGE = CHECKOUT / "docs/clients.md"
MODULES = CHECKOUT / "build/clients"
MICROPYTHON = CHECKOUT / "tests/harness/micropython"
VARYING = ("id", "node", "time_start", "time_end", "duration_ms", "queued_ms", "cold")
BLOCKS = {
    (found[1], found[2]): found[3]
    for found in re.finditer(r"^```(\w+) (\w+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
}


@pytest.fixture(scope="module")
def broker_of_the_page(grounds: Grounds) -> Iterator[Broker]:
    """A broker with a server that has the function of the page."""
    bench = Bench(grounds)
    broker = bench.broker()
    bench.server(broker).start()
    code = (CHECKOUT / "functions/hello/func.py").read_text(encoding="utf-8")
    bench.client(broker).deploy("hello", code)
    yield broker
    bench.clear()


def run(command: list[str], **environment: str) -> str:
    """What a program prints; it must end well."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **environment}
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def program(kind: str, name: str, broker: Broker) -> str:
    """An example of the page, for this broker."""
    text = BLOCKS[kind, name].replace("-h 192.0.2.10", f"-p {broker.port} -h 192.0.2.10")
    return text.replace("1883", str(broker.port)).replace("192.0.2.10", "127.0.0.1")


def alike(printed: str, shown: str) -> bool:
    """Whether two answers are the same but for ids and times."""
    one, other = json.loads(printed), json.loads(shown)
    same = [{key: value for key, value in each.items() if key not in VARYING} for each in (one, other)]
    return one.keys() == other.keys() and same[0] == same[1]


def test_a_sensor_that_only_publishes_is_served(broker_of_the_page: Broker) -> None:
    with Client(broker_of_the_page.port) as client:
        run(["bash", "-c", program("sh", "publish", broker_of_the_page)])
        client.wait(lambda message: message.body.get("result") == {"message": "Hello, sensor!"}, "the function to run")


@pytest.mark.parametrize("name", ["subscribe", "errors", "rr"])
def test_mosquittos_programs_print_what_the_page_shows(broker_of_the_page: Broker, name: str) -> None:
    printed = run(["bash", "-c", program("sh", name, broker_of_the_page)])
    assert alike(printed, BLOCKS["json", name]), printed


def test_paho_prints_what_the_page_shows(broker_of_the_page: Broker) -> None:
    printed = run([sys.executable, "-c", program("python", "paho", broker_of_the_page)])
    assert printed == BLOCKS["text", "paho"]


def test_mqtt_js_prints_what_the_page_shows(broker_of_the_page: Broker) -> None:
    if not (MODULES / "node_modules/mqtt").is_dir():
        npm = shutil.which("npm")
        assert npm is not None, "npm is not installed: scripts/test does that"
        run([npm, "install", "--prefix", str(MODULES), "--no-audit", "--no-fund", "mqtt@5"])
    printed = run(["node", "-e", program("js", "mqttjs", broker_of_the_page)], NODE_PATH=str(MODULES / "node_modules"))
    assert printed == BLOCKS["text", "mqttjs"]


def test_umqtt_simple_prints_what_the_page_shows(broker_of_the_page: Broker) -> None:
    printed = run(
        [sys.executable, "-c", program("python", "umqtt", broker_of_the_page)], PYTHONPATH=str(MICROPYTHON)
    )  # fmt: skip
    assert printed == BLOCKS["text", "umqtt"]


def test_every_example_of_the_page_is_tried() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert [name for _, name in BLOCKS if f'"{name}"' not in source] == []
