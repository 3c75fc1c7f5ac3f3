"""The samples do what their READMEs say, deployed as anyone would deploy them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.harness.bench import Bench
from tests.harness.client import Client

SAMPLES = Path(__file__).parents[2] / "functions"


def deploy_sample(client: Client, name: str, function: str) -> None:
    """Upload a sample's folder under a name of the test's own."""
    folder = SAMPLES / name
    requirements, settings = folder / "requirements.txt", folder / "function.toml"
    client.deploy(
        function,
        (folder / "func.py").read_text(),
        requirements.read_text() if requirements.exists() else "",
        tomllib.loads(settings.read_text()) if settings.exists() else None,
    )


def test_hello_greets_with_and_without_a_name(client: Client, function: str) -> None:
    deploy_sample(client, "hello", function)
    assert client.call(function) == {"message": "Hello, world!"}
    assert client.call(function, "garden") == {"message": "Hello, garden!"}


def test_pi_health_answers_on_any_linux_and_says_null_for_what_it_lacks(client: Client, function: str) -> None:
    deploy_sample(client, "pi-health", function)
    health = client.call(function)
    assert health["cpu_count"] >= 1
    assert 0 < health["memory_available_bytes"] <= health["memory_total_bytes"]
    assert {"model", "temperature_c", "under_voltage", "throttled"} <= set(health)


def test_anomaly_learns_a_sensor_and_then_tells_what_is_out_of_the_ordinary(client: Client, function: str) -> None:
    deploy_sample(client, "anomaly", function)
    for number in range(40):
        assert not client.call(function, 21.0 + number % 3 * 0.1, sensor="attic", resolution=0.1)["anomaly"]
    verdict = client.call(function, 35.0, sensor="attic", resolution=0.1)
    assert verdict["anomaly"]
    assert verdict["readings"] == 40


@pytest.mark.parametrize("reading", [None, "warm", True])
def test_anomaly_refuses_what_is_no_reading(client: Client, function: str, reading: Any) -> None:
    deploy_sample(client, "anomaly", function)
    answer = client.invoke(function, reading)
    assert (answer["code"], answer["error_type"]) == ("function_error", "ValueError")


def test_thermostat_keeps_its_decision_between_two_thresholds(client: Client, function: str) -> None:
    deploy_sample(client, "thermostat", function)
    assert client.call(function, 18.0)["heating"] is True
    assert client.call(function, 20.2)["heating"] is True
    assert client.call(function, 20.6)["heating"] is False
    assert client.call(function, 19.8)["heating"] is False


def test_thermostat_remembers_its_decision_through_a_power_cut(bench: Bench, function: str) -> None:
    broker = bench.broker()
    server = bench.server(broker).start()
    with Client(broker.port) as client:
        deploy_sample(client, "thermostat", function)
        assert client.call(function, 18.0)["heating"] is True
        server.kill()
        server.start()
        answer = client.call(function, 20.2)
    assert answer["heating"] is True
    assert answer["changed"] is False
