"""The service on booted hosts: it starts, answers, and comes back whatever happens to it."""

from __future__ import annotations

from tests.hosts.appliance import UNIT, Appliance


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
