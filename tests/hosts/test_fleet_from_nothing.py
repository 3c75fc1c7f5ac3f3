"""A fleet in one command: from freshly flashed hosts to answered calls, and what later runs change."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.harness.waiting import eventually
from tests.hosts.appliance import Appliance
from tests.hosts.control import Control
from tests.hosts.grown import AT_ONCE, CMDLINE, SENSORS
from tests.hosts.host import Host


def pids(host: Host) -> dict[str, str]:
    """The main processes of server and broker."""
    return {unit: host.property(unit, "MainPID") for unit in ("tinyfaas", "mosquitto")}


@pytest.mark.slow
def test_a_dry_run_on_new_hosts_works_and_changes_nothing(control: Control) -> None:
    before = [host.files().keys() for host in control.hosts]
    played = control.play("site.yml", *AT_ONCE, "--check", "--diff")
    assert all(counts["failed"] == 0 and counts["changed"] > 0 for counts in played.recap.values())
    for host, files in zip(control.hosts, before, strict=True):
        new = host.files().keys() - files
        assert [path for path in new if not path.startswith(("/run/", "/tmp/", "/var/log/", "/home/pi/.ansible"))] == []


def test_every_host_answers_after_one_command(grown: Control) -> None:
    for host in grown.hosts:
        assert Appliance(host).invoke("hello", "garden") == {"message": "Hello, garden!"}
        said = host.run("runuser", "--login", "pi", "--command", "sudo tinyfaas invoke hello").stdout
        assert json.loads(said) == {"message": "Hello, world!"}


def test_the_kernel_is_asked_for_the_memory_cgroup_where_it_is_off(grown: Control) -> None:
    for host in grown.hosts:
        on = "memory" in host.sh("cat /sys/fs/cgroup/cgroup.controllers").split()
        assert host.run("cat", CMDLINE).stdout == (
            f"console=serial0,115200 root=PARTUUID=0-02 rootwait{'' if on else ' cgroup_enable=memory'}\n"
        )


def test_a_second_run_changes_nothing(grown: Control) -> None:
    before = [pids(host) for host in grown.hosts]
    played = grown.play("site.yml", *AT_ONCE)
    assert played.changed == {}
    assert [pids(host) for host in grown.hosts] == before


@pytest.mark.slow
def test_a_dry_run_on_finished_hosts_finds_nothing_to_change(grown: Control) -> None:
    played = grown.play("site.yml", *AT_ONCE, "--check", "--diff")
    assert all(counts["failed"] == counts["changed"] == 0 for counts in played.recap.values())


def test_secrets_are_the_hosts_own_and_nobody_elses_to_read(grown: Control) -> None:
    sensors = [["sensors"], ["sensors"], [str(sensor["name"]) for sensor in SENSORS]]
    passwords = {
        host: [grown.credential(host, name) for name in ("server", "admin", *own)]
        for host, own in zip(grown.hosts, sensors, strict=True)
    }
    assert len({word for words in passwords.values() for word in words}) == sum(map(len, passwords.values()))
    credentials = grown.folder / "credentials"
    assert (credentials / ".gitignore").read_text(encoding="utf-8") == "*\n"
    assert credentials.stat().st_mode & 0o077 == 0
    for host in grown.hosts:
        files = host.files()
        assert files["/etc/mosquitto/tinyfaas"] == "d root:mosquitto 750"
        assert files["/etc/mosquitto/tinyfaas/passwords"] == "f root:mosquitto 640"
        assert files["/etc/mosquitto/tinyfaas/acl"] == "f root:mosquitto 640"
        assert files["/etc/tinyfaas/mqtt/password"] == "f root:root 600"
        assert files["/root/.config/tinyfaas/password"] == "f root:root 600"
        assert "$7$" in host.run("cat", "/etc/mosquitto/tinyfaas/passwords").stdout
        told = host.sh("grep --recursive --files-with-matches --include='*' -F "
                       f"'{passwords[host][-1]}' /etc /opt /root /var/lib || true")  # fmt: skip
        assert told == "", "a password in the clear that the host has no use for"


def reloads(host: Host) -> list[str]:
    """What the server left to a restart, each time that it read its settings again."""
    return [each["TINYFAAS_RESTART"] for each in host.journal("TINYFAAS_EVENT=reloaded")]


@dataclass(frozen=True)
class Change:
    """Variables that change on one host, and which services are restarted or read their settings again."""

    variables: dict[str, Any]
    restarted: set[str] = field(default_factory=set)
    reloaded: bool = False


# One on each host: that is one run for three.
FIRST = "a level of the log, the number of threads, an account of a sensor"
CHANGES = {
    FIRST: (
        Change({"tinyfaas_config": {"log": {"level": "debug"}}}, reloaded=True),
        Change({"tinyfaas_config": {"log": {"level": "debug"}, "workers": 3}}, {"tinyfaas"}),
        Change({"mosquitto_sensors": [*SENSORS, {"name": "attic", "functions": ["hello"]}]}),
    ),
    "a limit of the broker, a directive of the unit, a secret of a function": (
        Change({"mosquitto_max_packet_size": 4_000_000}, {"mosquitto"}),
        Change({"tinyfaas_service": {"MemoryMax": "300M"}}, {"tinyfaas"}),
        Change({"tinyfaas_secrets": {"token": "s3cret"}}, {"tinyfaas"}),
    ),
}


@pytest.mark.parametrize(
    "what", [FIRST, *(pytest.param(what, marks=pytest.mark.slow) for what in CHANGES if what != FIRST)]
)
def test_a_changed_variable_restarts_only_what_must_be(grown: Control, what: str) -> None:
    before = [(pids(host), reloads(host)) for host in grown.hosts]
    for host, change in zip(grown.hosts, CHANGES[what], strict=True):
        grown.own[host.name] |= change.variables
    played = grown.play("site.yml", *AT_ONCE)
    assert played.changed.keys() == {host.name for host in grown.hosts}
    for host, change, (earlier, reloaded) in zip(grown.hosts, CHANGES[what], before, strict=True):
        after = pids(host)
        assert {unit for unit in after if earlier[unit] != after[unit]} == change.restarted
        expected = [*reloaded, *[""] * change.reloaded]
        eventually(lambda: reloads(host) == expected, f"{host.name} to read its settings again, or not to")  # noqa: B023
        Appliance(host).wait_connected()
        assert Appliance(host).invoke("hello") == {"message": "Hello, world!"}


@pytest.mark.slow
def test_settings_that_are_no_good_leave_those_that_were_in_force(grown: Control) -> None:
    """On one host they can't be used; on the other they can, and the server does not answer with them."""
    unusable, mute = grown.hosts[:2]
    before = [(host.run("cat", "/etc/tinyfaas/tinyfaas.toml").stdout, pids(host)) for host in (unusable, mute)]
    with (
        grown.given(unusable, tinyfaas_config={"limits": {"timeout_s": "long"}}),
        grown.given(mute, tinyfaas_config={"mqtt": {"port": 1999}}, tinyfaas_gate_s=12),
    ):
        played = grown.play("site.yml", *AT_ONCE, "--limit", f"{unusable.name},{mute.name}", check=False)
    assert played.status != 0
    assert "limits.timeout_s: 'long' is not a number" in played.output
    assert "serves again" in played.output
    after = [(host.run("cat", "/etc/tinyfaas/tinyfaas.toml").stdout, pids(host)) for host in (unusable, mute)]
    assert after[0] == before[0]
    assert after[1][0] == before[1][0]
    assert Appliance(mute).invoke("hello") == {"message": "Hello, world!"}


@pytest.mark.slow
def test_a_host_that_is_off_is_told_and_catches_up(grown: Control) -> None:
    host = grown.hosts[1]
    grown.own[host.name]["mosquitto_autosave_interval_s"] = 120
    host.cable.pull()
    try:
        played = grown.play("site.yml", *AT_ONCE, all_are_there=False)
    finally:
        host.cable.plug()
    assert f"left as they are until the next run: {host.name}" in played.output
    caught_up = grown.play("site.yml", *AT_ONCE)
    assert caught_up.changed == {host.name: ["Write the settings", "Restart mosquitto"]}


def test_the_health_of_the_fleet_is_one_table(grown: Control) -> None:
    played = grown.play("check.yml")
    assert played.changed == {}
    for host in grown.hosts:
        (row,) = [line for line in played.output.splitlines() if line.split()[1:3] == [host.name, "active"]]
        assert "0.1.0+" in row
