"""A host that tinyfaas was installed on, with a broker that asks for passwords."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

from tests.harness.client import Client
from tests.harness.installation import CHECKOUT
from tests.harness.waiting import eventually
from tests.hosts.host import Host
from tests.hosts.relay import Relay
from tests.hosts.wheels import wheels

UNIT = "tinyfaas.service"
PASSWORD = "the-servers-own-password"
ADMINISTRATOR = ("admin", "the-administrators-password")
_SYSTEMD = CHECKOUT / "deploy" / "systemd"
_BROKER = """\
allow_anonymous false
autosave_interval 1
autosave_on_changes true
listener 1883 127.0.0.1
max_inflight_messages 0
max_queued_messages 100000
password_file /etc/mosquitto/passwords
set_tcp_nodelay true
"""
_SETTINGS = """\
[mqtt]
username = "tinyfaas"
password_file = "/run/credentials/tinyfaas.service/mqtt_password"
"""
_INSTALL = """
set -e
python3 -m venv /opt/tinyfaas/here
/opt/tinyfaas/here/bin/pip install --quiet --no-index --find-links /opt/tinyfaas/wheels tinyfaas
ln --symbolic here /opt/tinyfaas/current
ln --symbolic /opt/tinyfaas/current/bin/tinyfaas /usr/local/bin/tinyfaas
systemd-sysusers
systemd-tmpfiles --create /etc/tmpfiles.d/tinyfaas.conf
for group in gpio i2c spi dialout video; do usermod --append --groups $group tinyfaas; done
touch /etc/mosquitto/passwords
chown mosquitto: /etc/mosquitto/passwords
systemctl daemon-reload
"""


class Appliance:
    """What an operator sees of it, and what a client does."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def install(self) -> None:
        """Install and start it, and return at once."""
        host = self.host
        host.copy(wheels(), "/opt/tinyfaas")
        host.run("mv", f"/opt/tinyfaas/{wheels().name}", "/opt/tinyfaas/wheels")
        host.write("/etc/systemd/system/tinyfaas.service", (_SYSTEMD / "tinyfaas.service").read_text())
        host.write("/etc/sysusers.d/tinyfaas.conf", (_SYSTEMD / "tinyfaas.sysusers").read_text())
        host.write("/etc/tmpfiles.d/tinyfaas.conf", (_SYSTEMD / "tinyfaas.tmpfiles").read_text())
        host.write("/etc/tinyfaas/tinyfaas.toml", _SETTINGS)
        host.write("/etc/mosquitto/conf.d/tinyfaas.conf", _BROKER)
        host.sh(_INSTALL)
        for account, password in (("tinyfaas", PASSWORD), ADMINISTRATOR):
            host.run("mosquitto_passwd", "-b", "/etc/mosquitto/passwords", account, password)
        host.write("/etc/tinyfaas/mqtt/password", PASSWORD, 0o600)
        host.sh("systemctl restart mosquitto && systemctl enable --quiet --now tinyfaas")

    def cli(self, *words: str, check: bool = True) -> str:
        """What the command line prints when an administrator uses it."""
        account, password = ADMINISTRATOR
        environ = {"TINYFAAS_MQTT_USERNAME": account, "TINYFAAS_MQTT_PASSWORD": password}
        return self.host.run("tinyfaas", *words, check=check, environ=environ).stdout

    def deploy(self, function: str, code: str, settings: str = "") -> None:
        """Upload a function; code may be indented."""
        folder = f"/root/{function}"
        self.host.write(f"{folder}/func.py", dedent(code))
        if settings:
            self.host.write(f"{folder}/function.toml", settings)
        self.cli("deploy", folder, "--wait")

    def invoke(self, function: str, *arguments: object) -> Any:
        """The result of a function."""
        return json.loads(self.cli("invoke", function, *map(json.dumps, arguments)))

    def show(self, name: str) -> str:
        """A property of the service."""
        return self.host.property(UNIT, name)

    @property
    def main_pid(self) -> int:
        """The server's process, as the host counts; 0 while there is none."""
        return int(self.show("MainPID") or 0)

    @property
    def restarts(self) -> int:
        """How often systemd has started it again by itself."""
        return int(self.show("NRestarts"))

    def is_active(self) -> bool:
        """Whether systemd has heard that it is ready."""
        return self.show("SubState") == "running"

    def wait_active(self, timeout_s: float = 60.0) -> None:
        """Until it is ready; fails with what it logged."""
        try:
            eventually(self.is_active, f"{UNIT} on {self.host.name} to be running", timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()}") from None

    def wait_connected(self, timeout_s: float = 60.0) -> None:
        """Until its status line says so."""
        eventually(
            lambda: self.show("StatusText").startswith("connected to"), "the server to be connected", timeout_s
        )

    def log(self, lines: int = 40) -> str:
        """The end of what it logged."""
        return self.host.sh(f"journalctl --unit tinyfaas --no-pager --lines {lines}", check=False)

    @contextlib.contextmanager
    def client(self, *, lasting: bool = False) -> Iterator[Client]:
        """A client of its broker, in the tests' own process."""
        with Relay(self.host.cable, 1883) as relay, Client(relay.port, lasting=lasting, account=ADMINISTRATOR) as made:
            yield made

    def lines(self, path: str) -> list[str]:
        """The lines of one of its files."""
        return self.host.run("cat", path).stdout.splitlines()


def state_of(function: str) -> Path:
    """The folder a function writes to."""
    return Path("/var/lib/tinyfaas/functions", function, "state")
