"""docs/operations.md: each line on it is run on a booted host, against events that happened there."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable

import pytest

from tests.harness.client import upload_body
from tests.harness.installation import CHECKOUT
from tests.hosts.appliance import UNIT, Appliance

PAGE = CHECKOUT / "docs/operations.md"
LINES = re.findall(r"^```sh\n(.+)\n```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
_FOLLOW_S = 3
_THERMOSTAT = """
    import sys, time
    def main(what="measure"):
        print("it is 21 degrees", flush=True)
        print("the sensor is slow", file=sys.stderr, flush=True)
        if what == "fail":
            raise RuntimeError("no such sensor")
        if what == "hang":
            time.sleep(60)
        return 21
"""


@pytest.fixture(scope="session")
def eventful(shared_appliance: Appliance) -> Appliance:
    """An appliance to which everything has happened that the page asks for."""
    appliance = shared_appliance
    appliance.host.run("systemctl", "start", "mosquitto", "tinyfaas")
    appliance.wait_connected()
    appliance.deploy("thermostat", _THERMOSTAT, "timeout_s = 1\n")
    with appliance.drop_in("WatchdogSec=3"):
        before = appliance.restarts
        appliance.signal(signal.SIGSTOP)
        appliance.wait_restarted(before)
    appliance.host.crash()
    appliance.host.start()
    appliance.host.wait_up()
    appliance.wait_active()
    appliance.wait_connected()
    with appliance.client() as client:
        client.deploy("thermostat", _THERMOSTAT, config={"timeout_s": 1})
        assert client.request("faas/invoke/thermostat", {"request_id": "r-17"})["result"] == 21
        assert client.invoke("thermostat", "fail")["code"] == "function_error"
        assert client.invoke("thermostat", "hang")["code"] == "timeout"
        assert client.request("faas/admin/upload/broken", upload_body("import nothing_of_that_name"))["code"]
    appliance.host.run("systemctl", "restart", "mosquitto")
    appliance.wait_connected()
    before = appliance.restarts
    appliance.signal(signal.SIGKILL)
    appliance.wait_restarted(before)
    return appliance


def says(*words: str, but: tuple[str, ...] = ()) -> Callable[[str], None]:
    """That all of these are printed, and none of those."""

    def check(printed: str) -> None:
        for word in words:
            assert word in printed, f"{word!r} is missing in:\n{printed}"
        for word in but:
            assert word not in printed, f"{word!r} stands in:\n{printed}"

    return check


def is_line(text: str) -> Callable[[str], None]:
    """That this is printed and nothing else."""

    def check(printed: str) -> None:
        assert printed.strip() == text

    return check


def tells_durations(printed: str) -> None:
    """That each line is an object with a function and a number."""
    calls = [json.loads(line) for line in printed.splitlines()]
    assert any(call["TINYFAAS_FUNCTION"] == "thermostat" and float(call["TINYFAAS_DURATION_MS"]) > 0 for call in calls)


# Whoever adds a line to the page says here what it has to print.
PROMISED: dict[str, Callable[[str], None]] = {
    "systemctl status tinyfaas": says("active (running)", "Status: \"connected to localhost:1883, ", "serve"),
    "systemctl show tinyfaas --property StatusText --value": says("connected to localhost:1883, ", " failing"),
    "systemctl is-active tinyfaas": is_line("active"),
    "systemctl show tinyfaas --property NRestarts,Result,ExecMainStartTimestamp":
        says("NRestarts=1", "Result=success", "ExecMainStartTimestamp="),
    "journalctl UNIT=tinyfaas.service _PID=1 --since today":
        says("Watchdog timeout", "Scheduled restart job", "Started tinyfaas.service", "status=9/KILL"),
    "systemd-cgls --full --unit tinyfaas.service": says("current/bin/tinyfaas serve"),
    "journalctl --unit tinyfaas --follow": says("ready: "),
    "journalctl --unit tinyfaas --boot --priority warning":
        says("no such sensor", "it took too long", but=("is connected to", "it is 21 degrees")),
    "journalctl --unit tinyfaas --boot --priority warning --catalog":
        says("no such sensor", "Subject: A call of thermostat took too long", "Defined-By: tinyfaas"),
    "journalctl --unit tinyfaas --boot -1 --lines 20": says("tinyfaas", but=("r-17",)),
    "journalctl --unit tinyfaas --unit mosquitto --since -1h": says("Started mosquitto.service", "is connected to"),
    "journalctl --unit tinyfaas TINYFAAS_EVENT=connected TINYFAAS_EVENT=disconnected TINYFAAS_EVENT=broker_unreachable":
        says("is connected to localhost:1883", "lost the broker", but=("ready: ",)),
    "journalctl --unit tinyfaas TINYFAAS_FUNCTION=thermostat --lines 50":
        says("is deployed", "it is 21 degrees", "the sensor is slow", "no such sensor", "it took too long",
             but=("is connected to",)),
    "journalctl --unit tinyfaas TINYFAAS_FUNCTION=thermostat --priority warning":
        says("no such sensor", "it took too long", but=("it is 21 degrees", "is deployed")),
    "journalctl --unit tinyfaas TINYFAAS_FUNCTION=thermostat TINYFAAS_STREAM=stderr --output cat":
        says("the sensor is slow\n", but=("it is 21 degrees", "tinyfaas[")),
    "journalctl TINYFAAS_REQUEST_ID=r-17": says("thermostat", "answered in", but=("no such sensor",)),
    "journalctl --unit tinyfaas TINYFAAS_EVENT=worker_killed TINYFAAS_CODE=timeout":
        says("thermostat", "it took too long"),
    "journalctl --unit tinyfaas TINYFAAS_EVENT=function_deployed --output short-iso":
        says("thermostat v1 is deployed", "thermostat v2 is deployed"),
    "journalctl --unit tinyfaas TINYFAAS_EVENT=invocation_done --output json"
    " --output-fields TINYFAAS_FUNCTION,TINYFAAS_DURATION_MS": tells_durations,
    "journalctl --unit tinyfaas --field TINYFAAS_CODE": says("function_error\n", "timeout\n"),
    "systemctl reload tinyfaas": is_line(""),
    "journalctl --unit tinyfaas TINYFAAS_EVENT=reloaded TINYFAAS_EVENT=reload_refused --lines 1":
        says("settings read again"),
    "systemctl restart tinyfaas": is_line(""),
    "systemctl set-property tinyfaas MemoryMax=300M": is_line(""),
    "systemctl cat tinyfaas": says("# /etc/systemd/system/tinyfaas.service", "WatchdogSec=30", "MemoryMax="),
    "systemd-analyze security tinyfaas": says("Overall exposure level for tinyfaas.service"),
    "journalctl --disk-usage": says("take up"),
}  # fmt: skip


def test_the_page_has_at_least_twenty_lines_and_each_is_tried() -> None:
    assert len(set(LINES)) >= 20
    assert set(LINES) == PROMISED.keys()


@pytest.mark.parametrize("line", LINES)
def test_a_line_of_the_page_prints_what_it_promises(eventful: Appliance, line: str) -> None:
    if line.endswith("--follow"):
        done = eventful.host.run("timeout", str(_FOLLOW_S), *line.split(), check=False)
    else:
        done = eventful.host.run(*line.split())
    PROMISED[line](done.stdout)
    if line == "systemctl restart tinyfaas":
        eventful.wait_active()
        eventful.wait_connected()


def test_memory_that_was_set_becomes_a_drop_in(eventful: Appliance) -> None:
    eventful.host.run("systemctl", "set-property", UNIT, "MemoryMax=300M")
    assert eventful.show("MemoryMax") == str(300 * 1024**2)
    assert "system.control" in eventful.show("DropInPaths")
