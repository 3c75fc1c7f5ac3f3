"""From an image that has nothing of what is needed, with Debian's packages fetched; and back to it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.hosts import control as ansible
from tests.hosts.appliance import Appliance
from tests.hosts.control import Control
from tests.hosts.doorway import Doorway
from tests.hosts.fleet import Fleet
from tests.hosts.grown import CMDLINE
from tests.hosts.test_fleet_security import Party
from tests.hosts.test_fleet_withdrawal import is_of_the_run
from tests.hosts.wheels import wheels


def own_authority(folder: Path, address: str) -> dict[str, str]:
    """Certificate of an authority, and a broker's that it has signed, with its key: as somebody has who has a CA."""
    names = ("ca.crt", "ca.key", "broker.crt", "broker.key", "broker.csr", "broker.cnf")
    ca, ca_key, cert, key, request, extensions = (str(folder / name) for name in names)
    Path(extensions).write_text(f"subjectAltName = IP:{address}\n", encoding="utf-8")
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    signed_by = ("-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-extfile", extensions)
    for command in (
        ("req", "-x509", *new, "-subj", "/CN=ours", "-keyout", ca_key, "-out", ca),
        ("req", "-new", *new, "-subj", "/CN=broker", "-keyout", key, "-out", request),
        ("x509", "-req", "-in", request, *signed_by, "-out", cert),
    ):
        subprocess.run(["openssl", *command], check=True, capture_output=True)
    return {"ca": ca, "cert": cert, "key": key}


def locked(control: Control, name: str, text: str) -> tuple[str, str]:
    """Write a variable of the inventory that is encrypted; returns the arguments with which a play can read it."""
    opened_by = control.folder / "vault-password"
    opened_by.write_text("opens the vault\n", encoding="utf-8")
    program = [str(ansible.ANSIBLE / "ansible-vault"), "encrypt_string", "--vault-password-file", str(opened_by)]
    environ = {"HOME": str(control.folder), "LC_ALL": "C.UTF-8"}
    done = subprocess.run([*program, "--name", name, text], check=True, capture_output=True, text=True, env=environ)
    assert text not in done.stdout
    variables = control.folder / "group_vars/tinyfaas.yml"
    variables.parent.mkdir()
    variables.write_text(done.stdout, encoding="utf-8")
    return "--vault-password-file", str(opened_by)


@pytest.mark.slow
@pytest.mark.skipif(bool(ansible.missing()), reason=ansible.missing())
@pytest.mark.parametrize("release", ["bookworm", "trixie"])
def test_a_bare_host_answers_after_one_command_and_is_bare_again_after_another(
    fleet: Fleet, tmp_path: Path, release: str
) -> None:
    """The one with wheels; the other fetches from the registry, with certificates and a password that are given."""
    (host,) = fleet.boot(release, bare=True)
    with Doorway(f"{host.cable.address.rpartition('.')[0]}.1") as doorway:
        host.write("/etc/apt/apt.conf.d/98proxy", f'Acquire::http::Proxy "{doorway.url}";\n')
        host.sh(f"printf 'proxy = {doorway.url}\\n' >>/etc/pip.conf")
        host.write(CMDLINE, "root=PARTUUID=0-02 rootwait\n")
        before, boot = host.files(), host.boot_id()
        control = Control(tmp_path, [host])
        opens: tuple[str, ...] = ()
        if release == "bookworm":
            control.variables = {"tinyfaas_wheels": str(wheels())}
        else:
            given = own_authority(tmp_path, host.cable.address)
            opens = locked(control, "vault_admin", "from the vault")
            control.variables = {
                "mosquitto_tls": True, "mosquitto_tls_ca_file": given["ca"],
                "mosquitto_tls_cert_file": given["cert"], "mosquitto_tls_key_file": given["key"],
                "mosquitto_admin_password": "{{ vault_admin }}", "tinyfaas_admin_password": "{{ vault_admin }}",
            }  # fmt: skip
        with control.given(host, tinyfaas_reboot=True):
            said = control.play("site.yml", *opens).output
        assert "from the vault" not in said
        has_memory_cgroup = "memory" in host.sh("cat /sys/fs/cgroup/cgroup.controllers").split()
        assert (host.boot_id() == boot) == has_memory_cgroup
        Appliance(host).wait_connected()
        assert Appliance(host).invoke("hello") == {"message": "Hello, world!"}
        if opens:
            assert not (tmp_path / "credentials/ca").exists()
            admin = Party(host, Path(given["ca"]), ("admin", "from the vault"))
            assert admin.publish("faas/invoke/hello").returncode == 0
        assert control.play("site.yml", *opens).changed == {}
        noted = set(host.run("cat", "/opt/tinyfaas/debian-packages").stdout.split())
        assert {"bubblewrap", "mosquitto", "mosquitto-clients"} <= noted
        assert "python3" not in noted
        control.play("uninstall.yml", "--extra-vars", "purge=true packages=true", *opens)
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
