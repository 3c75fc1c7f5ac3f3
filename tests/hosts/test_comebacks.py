"""Whatever happens to service, broker or host: it is there again soon, and no request at QoS 1 is lost."""

from __future__ import annotations

import json
import signal
import time

import pytest

from tests.harness.load import COUNTING, Load
from tests.harness.tally import tally, wait_answered
from tests.harness.waiting import eventually
from tests.hosts.appliance import FUNCTIONS, UNIT, Appliance

_PER_SECOND = 20
_SLOW = """
    import time
    def main(number):
        time.sleep(0.4)
        with open("runs", "a") as file:
            file.write(f"{number}\\n")
        return number
"""
_WATCHDOG_S = 4
_BROKER_AWAY_S = 30
_POWER_CUTS = 10


def signal_server(appliance: Appliance, number: signal.Signals) -> None:
    """Send a signal to the server alone."""
    appliance.host.run("systemctl", "kill", "--kill-whom=main", f"--signal={number.name}", UNIT)


def wait_restarted(appliance: Appliance, before: int) -> None:
    """Wait until systemd has started it again by itself, and it serves."""
    eventually(lambda: appliance.restarts > before, "systemd to start it again", 60.0)
    appliance.wait_active()
    appliance.wait_connected()


def test_a_killed_server_is_there_again_within_seconds_and_no_request_is_lost(appliance: Appliance) -> None:
    appliance.deploy("killed", COUNTING)
    before = appliance.restarts
    with appliance.client(lasting=True) as client:
        load = Load(client, "killed", _PER_SECOND)
        load.start()
        eventually(lambda: load.answered() > 10, "the load to run")
        signal_server(appliance, signal.SIGKILL)
        start_s = time.monotonic()
        wait_restarted(appliance, before)
        took_s = time.monotonic() - start_s
        load.stop()
        wait_answered(load)
        tally("kill -9", load, appliance.runs("killed")).say(seconds=f"{took_s:.1f}")
    assert took_s < 20


def test_a_server_that_stands_still_is_bitten_by_the_watchdog_and_no_request_is_lost(appliance: Appliance) -> None:
    appliance.deploy("stopped", COUNTING)
    with appliance.drop_in(f"WatchdogSec={_WATCHDOG_S}"), appliance.client(lasting=True) as client:
        before = appliance.restarts
        load = Load(client, "stopped", _PER_SECOND)
        load.start()
        eventually(lambda: load.answered() > 10, "the load to run")
        signal_server(appliance, signal.SIGSTOP)
        wait_restarted(appliance, before)
        load.stop()
        wait_answered(load)
        tally("SIGSTOP", load, appliance.runs("stopped")).say()
    said = [record["MESSAGE"] for record in appliance.host.journal("--unit", UNIT, "_PID=1")]
    assert any("Watchdog timeout" in message for message in said)


def test_a_broker_that_is_away_for_long_is_no_reason_to_start_anew(appliance: Appliance) -> None:
    before, pid = appliance.restarts, appliance.main_pid
    appliance.host.run("systemctl", "stop", "mosquitto")
    if True:
        eventually(lambda: appliance.show("StatusText").startswith("waiting for"), "the status line to say so")
        away_until_s = time.monotonic() + _BROKER_AWAY_S
        eventually(lambda: time.monotonic() > away_until_s or appliance.main_pid != pid, "the time", 60.0)
        assert (appliance.restarts, appliance.main_pid, appliance.is_active()) == (before, pid, True)
    appliance.host.run("systemctl", "start", "mosquitto")
    appliance.wait_connected()
    assert appliance.invoke("echo", 1) == [1]
    assert appliance.main_pid == pid


def test_it_starts_while_the_broker_is_away(appliance: Appliance) -> None:
    appliance.host.sh("systemctl stop mosquitto tinyfaas && systemctl mask --runtime --quiet mosquitto")
    try:
        appliance.host.run("systemctl", "start", "tinyfaas", timeout_s=30.0)
        assert appliance.is_active()
        assert appliance.show("StatusText").startswith("waiting for")
    finally:
        appliance.host.sh("systemctl unmask --runtime --quiet mosquitto && systemctl start mosquitto")
    appliance.wait_connected()
    assert appliance.invoke("echo", 1) == [1]


def test_a_stop_under_load_lets_finish_what_runs_and_loses_nothing(appliance: Appliance) -> None:
    appliance.deploy("drained", _SLOW)
    with appliance.client(lasting=True) as client:
        load = Load(client, "drained", _PER_SECOND)
        load.start()
        eventually(lambda: load.answered() > 3, "the load to run")
        start_s = time.monotonic()
        appliance.host.run("systemctl", "stop", "tinyfaas")
        took_s = time.monotonic() - start_s
        load.stop()
        assert appliance.show("Result") == "success"
        appliance.host.run("systemctl", "start", "tinyfaas")
        wait_answered(load)
        counted = tally("systemctl stop", load, appliance.runs("drained"))
        counted.say(seconds=f"{took_s:.1f}")
    assert counted.run_twice == set()
    assert took_s < 15


def test_after_a_reboot_all_functions_are_back(appliance: Appliance) -> None:
    before = json.loads(appliance.cli("list", "--json"))["functions"]
    appliance.host.reboot()
    appliance.wait_active()
    appliance.wait_connected()
    assert json.loads(appliance.cli("list", "--json"))["functions"] == before
    assert appliance.invoke("echo", "back") == ["back"]


@pytest.mark.timeout(900)
def test_power_cuts_under_load_corrupt_nothing(appliance: Appliance) -> None:
    appliance.deploy("cut", COUNTING)
    functions = json.loads(appliance.cli("list", "--json"))["functions"]
    with appliance.client(lasting=True) as client:
        load = Load(client, "cut", _PER_SECOND)
        load.start()
        for _ in range(_POWER_CUTS):
            answered = load.answered()
            eventually(lambda: load.answered() > answered + 10, "the load to run", 60.0)  # noqa: B023
            appliance.host.crash()
            appliance.host.start()
            appliance.host.wait_up()
            appliance.wait_active()
        load.stop()
        wait_answered(load)
        tally(f"{_POWER_CUTS} power cuts", load, appliance.runs("cut")).say()
    assert json.loads(appliance.cli("list", "--json"))["functions"] == functions
    assert appliance.restarts == 0, "a start failed"
    history = appliance.host.run("cat", f"{FUNCTIONS}/../logs.json").stdout
    assert all(json.loads(line) for line in history.splitlines())
    assert not [record for record in appliance.host.journal("--unit", UNIT, "--priority=err")]
