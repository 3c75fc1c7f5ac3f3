"""Whatever happens to service, broker or host: it is there again soon, and no request at QoS 1 is lost."""

from __future__ import annotations

import json
import signal
import time

import pytest

from tests.harness.load import COUNTING, Load
from tests.harness.tally import tally, wait_answered
from tests.harness.waiting import eventually
from tests.hosts.appliance import UNIT, Appliance

_PER_SECOND = 20
_SLOW = """
    import time
    def main(number):
        time.sleep(0.4)
        with open("runs", "a") as file:
            file.write(f"{number}\\n")
        return number
"""
_WATCHDOG_S = 3
_FREEZE = "/run/tinyfaas/freeze"
_IMPATIENT = (f"WatchdogSec={_WATCHDOG_S}", "RestartSec=100ms", f"Environment=TINYFAAS_DEBUG_FREEZE={_FREEZE}")
_THREADS = ("main", "invocations", "administration", "dispatch-1", "admin", "build-0")
_STOCK_LIMIT = 5
_CORRUPTION = (
    "record_rejected", "records_rejected", "records_unreadable", "registry_unreadable", "retained_unreadable",
    "dead_letter_unreadable",
)  # fmt: skip
_BROKER_AWAY_S = 30
_POWER_CUTS = 10
_AT_A_CUT = 5  # requests that the broker has confirmed and not yet saved


def test_a_killed_server_is_there_again_within_seconds_and_no_request_is_lost(appliance: Appliance) -> None:
    appliance.deploy("killed", COUNTING)
    before = appliance.restarts
    with appliance.client(lasting=True) as client:
        load = Load(client, "killed", _PER_SECOND)
        load.start()
        eventually(lambda: load.answered() > 10, "the load to run")
        appliance.signal(signal.SIGKILL)
        start_s = time.monotonic()
        appliance.wait_restarted(before)
        took_s = time.monotonic() - start_s
        load.stop()
        wait_answered(load)
        tally("kill -9", load, appliance.runs("killed")).say(seconds=f"{took_s:.1f}")
    assert took_s < 20


def test_a_thread_that_hangs_is_bitten_by_the_watchdog_and_no_request_is_lost(appliance: Appliance) -> None:
    appliance.deploy("frozen", COUNTING)
    bites = len(watchdog_bites(appliance))
    with appliance.drop_in(*_IMPATIENT), appliance.client(lasting=True) as client:
        load = Load(client, "frozen", _PER_SECOND)
        load.start()
        for thread in (*_THREADS, "all of them"):
            answered, before = load.answered(), appliance.restarts
            eventually(lambda: load.answered() > answered + 10, "the load to run", 60.0)  # noqa: B023
            if thread in _THREADS:
                appliance.host.write(_FREEZE, thread)
            else:
                appliance.signal(signal.SIGSTOP)
            appliance.wait_restarted(before)
        load.stop()
        wait_answered(load)
        tally("watchdog", load, appliance.runs("frozen")).say()
    assert len(watchdog_bites(appliance)) == bites + len(_THREADS) + 1
    said = appliance.host.run("journalctl", "--unit", UNIT, "--output=cat").stdout
    assert said.count("Fatal Python error: Aborted") >= len(_THREADS)  # and where each thread stood
    assert 'File "' in said


def watchdog_bites(appliance: Appliance) -> list[str]:
    """What systemd said each time that it missed a sign of life."""
    said = [str(record["MESSAGE"]) for record in appliance.host.journal(f"UNIT={UNIT}", "_PID=1")]
    return [message for message in said if "Watchdog timeout" in message]


def test_a_broker_that_is_away_for_long_is_no_reason_to_start_anew(appliance: Appliance) -> None:
    with appliance.drop_in(f"WatchdogSec={_WATCHDOG_S}", "Environment=TINYFAAS_MQTT_RECONNECT_MAX_S=2"):
        before, pid = appliance.restarts, appliance.main_pid
        appliance.host.run("systemctl", "stop", "mosquitto")
        eventually(lambda: appliance.show("StatusText").startswith("waiting for"), "the status line to say so")
        back_s = time.monotonic() + _BROKER_AWAY_S
        eventually(lambda: time.monotonic() > back_s or appliance.main_pid != pid, "the broker's return", 60.0)
        assert (appliance.restarts, appliance.main_pid, appliance.is_active()) == (before, pid, True)
        appliance.host.run("systemctl", "start", "mosquitto")
        appliance.wait_connected()
        assert appliance.invoke("echo", 1) == [1]
        assert (appliance.restarts, appliance.main_pid) == (before, pid)


def test_systemd_never_gives_up_on_a_server_that_fails_to_start(appliance: Appliance) -> None:
    with appliance.changed("RestartSec=100ms", "Environment=TINYFAAS_WORKERS=none"):
        appliance.host.run("systemctl", "restart", UNIT, check=False)
        eventually(lambda: appliance.restarts > _STOCK_LIMIT, "more starts than systemd grants others", 60.0)
    appliance.wait_active()


def test_it_starts_while_the_broker_is_away(appliance: Appliance) -> None:
    appliance.host.sh("systemctl stop mosquitto tinyfaas && systemctl mask --runtime --quiet mosquitto")
    try:
        appliance.host.run("systemctl", "start", "tinyfaas", timeout_s=30.0)
        assert appliance.is_active()
        assert appliance.show("StatusText").startswith("waiting for")
    finally:
        appliance.host.sh("systemctl unmask --runtime --quiet mosquitto; systemctl start mosquitto")
    appliance.wait_connected()
    assert appliance.invoke("echo", 1) == [1]


def test_a_stop_under_load_lets_finish_what_runs_and_loses_nothing(appliance: Appliance) -> None:
    appliance.deploy("drained", _SLOW)
    with appliance.client(lasting=True) as client:
        load = Load(client, "drained", _PER_SECOND)
        load.start()
        eventually(lambda: load.answered() > 3, "the load to run")
        load.stop()
        start_s = time.monotonic()
        appliance.host.run("systemctl", "stop", "tinyfaas")
        took_s = time.monotonic() - start_s
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
    """The broker may forget what it confirmed in the instant before the cut: that is counted, not forbidden."""
    appliance.deploy("cut", COUNTING)
    functions = json.loads(appliance.cli("list", "--json"))["functions"]
    with appliance.saving_broker(), appliance.client(lasting=True) as client:
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
        appliance.wait_connected()
        assert client.call("cut", -1) == -1  # what waited before it has had its turn
        counted = tally(f"{_POWER_CUTS} power cuts", load, appliance.runs("cut"))
        counted.say()
    assert len(counted.lost) <= _POWER_CUTS * _AT_A_CUT, counted.lost
    assert json.loads(appliance.cli("list", "--json"))["functions"] == functions
    assert appliance.restarts == 0, "a start failed"
    history = appliance.host.run("cat", "/var/lib/tinyfaas/logs.json").stdout
    assert all(json.loads(line) for line in history.splitlines())
    assert not appliance.host.journal(*(f"TINYFAAS_EVENT={event}" for event in _CORRUPTION))
