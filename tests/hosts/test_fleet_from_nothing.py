"""A fleet in one command: from freshly flashed hosts to answered calls, and what later runs change."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.hosts.appliance import Appliance
from tests.hosts.control import Control
from tests.hosts.grown import AT_ONCE
from tests.hosts.host import Host


def pids(host: Host) -> dict[str, str]:
    """The main processes of server and broker."""
    return {unit: host.property(unit, "MainPID") for unit in ("tinyfaas", "mosquitto")}


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


def test_a_second_run_changes_nothing(grown: Control) -> None:
    before = [pids(host) for host in grown.hosts]
    played = grown.play("site.yml", *AT_ONCE)
    assert played.changed == {}
    assert [pids(host) for host in grown.hosts] == before


def test_a_dry_run_on_finished_hosts_finds_nothing_to_change(grown: Control) -> None:
    played = grown.play("site.yml", *AT_ONCE, "--check", "--diff")
    assert all(counts["failed"] == counts["changed"] == 0 for counts in played.recap.values())


def test_secrets_are_the_hosts_own_and_nobody_elses_to_read(grown: Control) -> None:
    passwords = {grown.credential(host, name) for host in grown.hosts for name in ("server", "admin", "sensors")}
    assert len(passwords) == 3 * len(grown.hosts)
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
                       f"'{grown.credential(host, 'sensors')}' /etc /opt /root /var/lib || true")  # fmt: skip
        assert told == "", "a password in the clear that the host has no use for"


RESTARTS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "a level of the log": ({"tinyfaas_config": {"log": {"level": "debug"}}}, {"tinyfaas"}),
    "a directive of the unit": ({"tinyfaas_service": {"MemoryMax": "300M"}}, {"tinyfaas"}),
    "a secret of a function": ({"tinyfaas_secrets": {"token": "s3cret"}}, {"tinyfaas"}),
    "an account of a sensor": ({"mosquitto_sensors": [{"name": "attic", "functions": ["hello"]}]}, set()),
    "a limit of the broker": ({"mosquitto_max_packet_size": 4_000_000}, {"mosquitto"}),
}

ALIKE = ("a directive of the unit", "a secret of a function")  # those take the way that a level of the log takes


@pytest.mark.parametrize("what", [
    *(what for what in RESTARTS if what not in ALIKE), *(pytest.param(what, marks=pytest.mark.slow) for what in ALIKE)
])  # fmt: skip
def test_a_changed_variable_restarts_only_what_must_be(grown: Control, what: str) -> None:
    variables, restarted = RESTARTS[what]
    host = grown.hosts[0]
    before = pids(host)
    grown.own[host.name] |= variables
    played = grown.play("site.yml", "--limit", host.name)
    assert played.changed[host.name]
    after = pids(host)
    assert {unit for unit in before if before[unit] != after[unit]} == restarted
    Appliance(host).wait_connected()
    assert Appliance(host).invoke("hello") == {"message": "Hello, world!"}


def test_settings_that_are_no_good_do_not_replace_the_running_ones(grown: Control) -> None:
    host = grown.hosts[1]
    before = host.run("cat", "/etc/tinyfaas/tinyfaas.toml").stdout, pids(host)
    grown.own[host.name]["tinyfaas_config"] = {"limits": {"timeout_s": "long"}}
    try:
        played = grown.play("site.yml", "--limit", host.name, check=False)
    finally:
        del grown.own[host.name]["tinyfaas_config"]
    assert played.status != 0
    assert "limits.timeout_s: 'long' is not a number" in played.output
    assert (host.run("cat", "/etc/tinyfaas/tinyfaas.toml").stdout, pids(host)) == before


def test_settings_with_which_the_server_does_not_answer_are_taken_back(grown: Control) -> None:
    host = grown.hosts[1]
    before = host.run("cat", "/etc/tinyfaas/tinyfaas.toml").stdout
    grown.own[host.name] |= {"tinyfaas_config": {"mqtt": {"port": 1999}}, "tinyfaas_gate_s": 12}
    try:
        played = grown.play("site.yml", "--limit", host.name, check=False)
    finally:
        del grown.own[host.name]["tinyfaas_config"], grown.own[host.name]["tinyfaas_gate_s"]
    assert played.status != 0
    assert "serves again" in played.output
    assert host.run("cat", "/etc/tinyfaas/tinyfaas.toml").stdout == before
    assert Appliance(host).invoke("hello") == {"message": "Hello, world!"}


def test_a_host_that_is_off_is_told_and_catches_up(grown: Control) -> None:
    host = grown.hosts[1]
    grown.own[host.name]["mosquitto_autosave_interval_s"] = 120
    host.cable.pull()
    try:
        played = grown.play("site.yml", *AT_ONCE)
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
