"""The service on booted hosts: it starts, answers, and comes back whatever happens to it."""

from __future__ import annotations

import json
import re

from tests.harness.installation import CHECKOUT
from tests.hosts.appliance import UNIT, Appliance

EXPLAINED = (CHECKOUT / "deploy/systemd/README.md").read_text(encoding="utf-8")


def test_it_is_active_and_answers_the_command_line(appliance: Appliance) -> None:
    assert appliance.show("ActiveState") == "active"
    assert appliance.show("SubState") == "running"
    assert appliance.invoke("echo", 1, "two") == [1, "two"]


def test_the_status_line_says_how_it_is(appliance: Appliance) -> None:
    assert appliance.show("StatusText").startswith("connected to localhost:1883, ")


def test_systemd_finds_nothing_wrong_with_the_unit(appliance: Appliance) -> None:
    checked = appliance.host.run("systemd-analyze", "verify", UNIT, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_the_unit_is_closed_as_far_as_the_functions_sandbox_allows(appliance: Appliance) -> None:
    checked = appliance.host.run("systemd-analyze", "security", "--threshold=30", "--no-pager", UNIT, check=False)
    assert checked.returncode == 0, checked.stdout


def test_whatever_is_left_open_is_explained(appliance: Appliance) -> None:
    command = f"systemd-analyze security --offline=true --json=short /etc/systemd/system/{UNIT}"
    points = json.loads(appliance.host.sh(command))
    left_open = {point["name"].replace("_(INET|INET6)", "_INET") for point in points if float(point["exposure"] or 0)}
    assert len(left_open) > 10
    # RestrictNamespaces= is explained for all of them at once, RootDirectory= stands for RootImage= too.
    words = {re.sub(r"(?<=RestrictNamespaces=).*|/RootImage=", "", point) for point in left_open}
    assert {word for word in words if word.rpartition("~")[2] not in EXPLAINED} == set()


def test_it_is_ready_within_seconds(appliance: Appliance) -> None:
    appliance.restart()
    began_us, ready_us = (int(appliance.show(f"{at}TimestampMonotonic")) for at in ("InactiveExit", "ActiveEnter"))
    assert 0 < ready_us - began_us < 20e6
    assert appliance.show("NRestarts") == "0"


def test_a_busy_machine_does_not_make_the_watchdog_bite(appliance: Appliance) -> None:
    with appliance.drop_in("WatchdogSec=5"):
        pid = appliance.main_pid
        appliance.host.sh("for n in {1..20}; do timeout 15 sh -c 'while :; do :; done' & done; wait", check=False)
        assert (appliance.main_pid, appliance.restarts) == (pid, 0)
        assert appliance.invoke("echo", "calm") == ["calm"]
