"""From an image that has nothing of what is needed, with Debian's packages fetched; and back to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hosts import control as ansible
from tests.hosts.appliance import Appliance
from tests.hosts.control import Control
from tests.hosts.doorway import Doorway
from tests.hosts.fleet import Fleet
from tests.hosts.test_fleet_withdrawal import is_of_the_run
from tests.hosts.wheels import wheels


@pytest.mark.slow
@pytest.mark.skipif(bool(ansible.missing()), reason=ansible.missing())
@pytest.mark.parametrize("release", ["bookworm", "trixie"])
def test_a_bare_host_answers_after_one_command_and_is_bare_again_after_another(
    fleet: Fleet, tmp_path: Path, release: str
) -> None:
    (host,) = fleet.boot(release, bare=True)
    with Doorway(f"{host.cable.address.rpartition('.')[0]}.1") as doorway:
        host.write("/etc/apt/apt.conf.d/98proxy", f'Acquire::http::Proxy "{doorway.url}";\n')
        before = host.files()
        control = Control(tmp_path, [host])
        control.variables = {"tinyfaas_wheels": str(wheels())}
        control.play("site.yml")
        assert Appliance(host).invoke("hello") == {"message": "Hello, world!"}
        assert control.play("site.yml").changed == {}
        noted = set(host.run("cat", "/opt/tinyfaas/debian-packages").stdout.split())
        assert {"bubblewrap", "mosquitto", "mosquitto-clients"} <= noted
        assert "python3" not in noted
        control.play("uninstall.yml", "--extra-vars", "purge=true packages=true")
    after = host.files()
    differ = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert sorted(path for path in differ if not is_of_the_run(path)) == []
    fleet.discard(host)


@pytest.mark.slow
@pytest.mark.skipif(not ansible.OLDEST.exists(), reason="ansible-core 2.14 is not there: it takes Python 3.11")
def test_the_oldest_ansible_does_the_same(fleet: Fleet, tmp_path: Path) -> None:
    (host,) = fleet.boot("bookworm")
    control = Control(tmp_path, [host], ansible.OLDEST)
    control.variables = {"tinyfaas_wheels": str(wheels()), "mosquitto_tls": True}
    control.play("site.yml", "--check", "--diff")
    control.play("site.yml")
    assert Appliance(host).invoke("hello") == {"message": "Hello, world!"}
    assert control.play("site.yml").changed == {}
    control.play("check.yml")
    control.play("uninstall.yml", "--extra-vars", "purge=true")
    fleet.discard(host)
