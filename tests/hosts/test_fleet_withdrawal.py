"""A fleet can be taken off its hosts again."""

from __future__ import annotations

import re

import pytest

from tests.hosts.control import Control
from tests.hosts.fleet import Fleet
from tests.hosts.grown import RELEASES


def test_uninstalled_hosts_are_as_they_were_but_for_packages(grown: Control, fleet: Fleet) -> None:
    grown.play("uninstall.yml", "--extra-vars", "purge=true")
    untouched = {}
    for release in set(RELEASES):
        (fresh,) = fleet.boot(release)
        untouched[release] = fresh.files()
        fleet.discard(fresh)
    for host, release in zip(grown.hosts, RELEASES, strict=True):
        before, after = untouched[release], host.files()
        differ = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
        assert sorted(path for path in differ if not is_of_the_run(path)) == []
        assert host.run("getent", "passwd", "tinyfaas", check=False).stdout == ""


_OF_THE_RUN = (
    "/boot/", "/run/", "/tmp", "/var/log/", "/var/tmp", "/home/pi/.ansible", "/root/.ansible", "/var/lib/systemd",
    "/var/lib/apt", "/var/lib/dpkg", "/var/lib/mosquitto", "/var/cache", "/var/lib/private",
)  # fmt: skip


def is_of_the_run(path: str) -> bool:
    """Whether a path comes of running a system, of Ansible or of a test, and not of what was installed."""
    return path.startswith(_OF_THE_RUN) or bool(re.match(r"/root/[^.]", path))


@pytest.mark.slow
def test_there_is_nothing_to_uninstall_where_nothing_is(grown: Control) -> None:
    grown.play("uninstall.yml", "--extra-vars", "purge=true")
    assert grown.play("uninstall.yml").changed == {}
