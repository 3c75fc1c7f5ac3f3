"""Fixtures: a fleet that the playbook has grown from freshly flashed hosts. Tests share it and change its variables.

Three hosts. The first two are given no variable at all; the last one's broker is open to others, with accounts for two
sensors.
"""

from __future__ import annotations

import time

import pytest

from tests.hosts import control as ansible
from tests.hosts.control import Control
from tests.hosts.fleet import Fleet
from tests.hosts.host import Host
from tests.hosts.wheels import wheels

RELEASES = ("bookworm", "trixie", "bookworm")
AT_ONCE = ("--extra-vars", "tinyfaas_serial=100%")  # not batch by batch: quicker where nothing serves yet
CMDLINE = "/boot/firmware/cmdline.txt"  # of Raspberry Pi OS
SENSORS = [
    {"name": "greenhouse", "functions": ["hello"], "topics": ["sensors/greenhouse/#"]},
    {"name": "meters", "functions": ["+"], "topics": ["sensors/meters/#"], "answers": ["hello"]},
]
OPEN = {"mosquitto_tls": True, "mosquitto_websockets": True, "mosquitto_sensors": SENSORS}


@pytest.fixture(scope="session")
def hosts(fleet: Fleet) -> list[Host]:
    """Freshly flashed hosts."""
    if why := ansible.missing():
        pytest.skip(why)
    hosts = [host for release in RELEASES for host in fleet.boot(release)]
    for host in hosts:
        host.write(CMDLINE, "console=serial0,115200 root=PARTUUID=0-02 rootwait\n")
    return hosts


@pytest.fixture(scope="session")
def control(hosts: list[Host], tmp_path_factory: pytest.TempPathFactory) -> Control:
    """Their control machine. For all of them nothing is set but where wheels are, for want of a way out."""
    control = Control(tmp_path_factory.mktemp("control"), hosts)
    control.variables = {"tinyfaas_wheels": str(wheels())}
    control.own[hosts[-1].name] = dict(OPEN)
    return control


@pytest.fixture(scope="session")
def grown(control: Control) -> Control:
    """The fleet after the first run of the playbook."""
    start_s = time.monotonic()
    control.play("site.yml", *AT_ONCE)
    print(f"site.yml: {len(control.hosts)} hosts in {time.monotonic() - start_s:.0f} s")
    return control
