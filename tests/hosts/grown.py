"""Fixtures: a fleet that the playbook has grown from freshly flashed hosts. Tests share it and change its variables."""

from __future__ import annotations

import time

import pytest

from tests.hosts import control as ansible
from tests.hosts.control import Control
from tests.hosts.fleet import Fleet
from tests.hosts.host import Host
from tests.hosts.image import SUITES
from tests.hosts.wheels import wheels

AT_ONCE = ("--extra-vars", "tinyfaas_serial=100%")  # not batch by batch: quicker where nothing serves yet


@pytest.fixture(scope="session")
def hosts(fleet: Fleet) -> list[Host]:
    """A freshly flashed host of each suite."""
    if why := ansible.missing():
        pytest.skip(why)
    return [host for suite in SUITES for host in fleet.boot(suite)]


@pytest.fixture(scope="session")
def control(hosts: list[Host], tmp_path_factory: pytest.TempPathFactory) -> Control:
    """Their control machine. No variable is set but where wheels are, for want of a way out."""
    control = Control(tmp_path_factory.mktemp("control"), hosts)
    control.variables = {"tinyfaas_wheels": str(wheels())}
    return control


@pytest.fixture(scope="session")
def grown(control: Control) -> Control:
    """The fleet after the first run of the playbook."""
    start_s = time.monotonic()
    control.play("site.yml", *AT_ONCE)
    print(f"site.yml: {len(control.hosts)} hosts in {time.monotonic() - start_s:.0f} s")
    return control
