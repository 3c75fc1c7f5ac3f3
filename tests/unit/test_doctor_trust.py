"""What `tinyfaas doctor` finds of groups, signers and secrets."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from tests.harness.pi import StockPi
from tinyfaas.cli.doctor import sharing, trust
from tinyfaas.cli.doctor.device import Device, Settings
from tinyfaas.cli.doctor.finding import Finding, State, fail, ok, skip, warn
from tinyfaas.config import Config, Mqtt, Node, Sandbox, Uploads

SIGNERS = "/etc/tinyfaas/signers"


@pytest.fixture
def pi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StockPi:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    pi = StockPi(tmp_path)
    pi.write("/usr/bin/ssh-keygen", "").chmod(0o755)
    return pi


def set_to(pi: StockPi, service: dict[str, str] | None = None, **sections: object) -> Device:
    config = dataclasses.replace(Config(), **sections)  # type: ignore[arg-type]
    return dataclasses.replace(pi.device, settings=Settings(config=config), service=service or {})


def in_group(pi: StockPi, name: str = "pi-01", **mqtt: object) -> Finding:
    settings = dataclasses.replace(Mqtt(reconnect_max_s=2), **mqtt)  # type: ignore[arg-type]
    return sharing.group(set_to(pi, node=Node(name, "kitchen"), mqtt=settings))


def test_a_node_of_a_group_has_a_name_of_its_own_is_back_soon_and_outlives_a_repair(pi: StockPi) -> None:
    assert sharing.group(set_to(pi, node=Node("pi-01"))).state is State.SKIP
    assert in_group(pi) == ok("pi-01 in kitchen")
    assert "have this name" in in_group(pi, "raspberrypi").found
    assert "throws away its share" in in_group(pi, session_expiry_s=600).found
    assert in_group(pi, reconnect_max_s=30.0).fix == "set mqtt.reconnect_max_s = 2"


def signers(pi: StockPi) -> Finding:
    return trust.signers(set_to(pi, uploads=Uploads(allowed_signers=SIGNERS)))


def test_where_uploads_must_be_signed_somebody_can_sign_them_and_somebody_can_check(pi: StockPi) -> None:
    assert trust.signers(set_to(pi)).state is State.SKIP
    assert signers(pi).state is State.FAIL
    file = pi.write(SIGNERS, "# who may upload\n")
    assert "names nobody" in signers(pi).found
    file.write_text("# who may upload\nada ssh-ed25519 AAAA\n", encoding="utf-8")
    file.chmod(0o644)
    assert signers(pi) == ok(f"{SIGNERS}: 1 signers")
    file.chmod(0o666)
    assert signers(pi) == warn(f"{SIGNERS} can be changed by others than its owner", f"sudo chmod go-w {SIGNERS}")
    pi.at("/usr/bin/ssh-keygen").unlink()
    assert signers(pi) == fail(
        "no ssh-keygen to check signatures with: no upload is taken", "sudo apt install openssh-client"
    )


def test_the_secrets_that_functions_ask_for_are_there_and_not_for_all_to_read(pi: StockPi) -> None:
    device = set_to(pi, {"ActiveState": "active"}, sandbox=Sandbox(secrets_dir="/srv/secrets"))
    assert trust.secrets(device) == skip("no function asks for any")
    versions = [{"version": 1, "config": {"secrets": ["old"]}}, {"version": 2, "config": {"secrets": ["token", "key"]}}]
    pi.write("/var/lib/tinyfaas/functions.json", json.dumps({"mail": {"version": 2, "versions": versions}}))
    pi.write("/etc/tinyfaas/secrets/token", "s3cret").chmod(0o600)
    assert trust.secrets(device) == warn(
        "not there: key (asked for by mail)",
        "write each into a file of its name in /srv/secrets, then restart the server",
    )
    file = pi.write("/srv/secrets/key", "s3cret")
    file.parent.chmod(0o700)
    file.chmod(0o644)
    assert trust.secrets(device) == ok("2 there, 2 asked for")
    file.parent.chmod(0o755)
    assert trust.secrets(device) == warn("others can look into /srv/secrets", "sudo chmod -R go-rwx /srv/secrets")
