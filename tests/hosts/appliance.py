"""A host that tinyfaas was installed on, with a broker that asks for passwords."""

from __future__ import annotations

import contextlib
import json
import signal
import tomllib
from collections import Counter
from collections.abc import Iterator
from textwrap import dedent
from typing import Any

from tests.harness.client import Client
from tests.harness.installation import CHECKOUT
from tests.harness.waiting import eventually
from tests.hosts.host import Host
from tests.hosts.relay import Relay
from tests.hosts.wheels import wheels

FUNCTIONS = "/var/lib/tinyfaas/functions"
TREE = "/root/tinyfaas"
UNIT = "tinyfaas.service"
WHEELS = "/root/wheels"
_PLAY_S = 900.0  # a minute, and more on a machine that has other things to do
_BROKER = "/etc/mosquitto/conf.d/tinyfaas.conf"
_DROP_IN = "/run/systemd/system/tinyfaas.service.d/test.conf"
_UNPACKED = ("LICENSE", "README.md", "deploy", "functions", "pyproject.toml", "scripts", "tinyfaas")


class Appliance:
    """What an operator sees of it, and what a client does."""

    def __init__(self, host: Host) -> None:
        """A host as it is without tinyfaas; `untouched` is what was on it then."""
        self.host = host
        self.untouched = host.files()

    def install(self, *arguments: str) -> str:
        """Run scripts/install as an operator does, in an unpacked archive; returns what it prints."""
        for name in _UNPACKED:
            self.host.copy(CHECKOUT / name, TREE)
        self.host.copy(wheels(), "/root")
        self.host.sh(f"rm -rf {WHEELS} && mv /root/{wheels().name} {WHEELS}")
        return self._script("install", *arguments)

    def uninstall(self, *arguments: str) -> str:
        """Run scripts/uninstall; returns what it prints."""
        return self._script("uninstall", *arguments)

    @property
    def administrator(self) -> tuple[str, str]:
        """Account and password of root's profile."""
        profile = tomllib.loads(self.host.run("cat", "/root/.config/tinyfaas/cli.toml").stdout)["default"]
        return profile["username"], self.host.run("cat", profile["password_file"]).stdout.strip()

    @property
    def password(self) -> str:
        """The server's own password at the broker."""
        return self.host.run("cat", "/etc/tinyfaas/mqtt/password").stdout.strip()

    def cli(self, *words: str, check: bool = True) -> str:
        """What the command line prints when root uses it."""
        return self.host.run("tinyfaas", *words, check=check).stdout

    def deploy(self, function: str, code: str, settings: str = "", *, node: str = "") -> None:
        """Upload a function, of several nodes at one broker to this `node`; code may be indented."""
        folder = f"/root/{function}"
        self.host.write(f"{folder}/func.py", dedent(code))
        if settings:
            self.host.write(f"{folder}/function.toml", settings)
        self.cli("deploy", folder, "--wait", *(["--node", node] if node else []))

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
        eventually(lambda: self.show("StatusText").startswith("connected to"), "the server to be connected", timeout_s)

    @contextlib.contextmanager
    def drop_in(self, *directives: str) -> Iterator[None]:
        """The service running with other directives, such as `WatchdogSec=4`; afterwards as it is shipped."""
        with self.changed(*directives):
            self.restart()
            yield
        self.restart()

    @contextlib.contextmanager
    def changed(self, *directives: str) -> Iterator[None]:
        """Other directives for the next starts."""
        self.host.write(_DROP_IN, "\n".join(("[Service]", *directives, "")))
        self.host.run("systemctl", "daemon-reload")
        try:
            yield
        finally:
            self.host.run("rm", "--force", _DROP_IN)
            self.host.run("systemctl", "daemon-reload")

    @contextlib.contextmanager
    def saving_broker(self) -> Iterator[None]:
        """A broker that saves what it holds at each change, as one would where no SD card wears out by it."""
        self.host.sh(f"cp {_BROKER} {_BROKER}.before && sed --in-place '/^autosave_/d' {_BROKER}")
        self.host.sh(f"printf 'autosave_interval 1\\nautosave_on_changes true\\n' >>{_BROKER}")
        self.host.run("systemctl", "restart", "mosquitto")
        try:
            yield
        finally:
            self.host.sh(f"mv {_BROKER}.before {_BROKER} && systemctl restart mosquitto")

    def wait_restarted(self, before: int) -> None:
        """Until systemd has started it more often than `before` by itself, and it serves."""
        eventually(lambda: self.restarts > before, f"systemd to start {UNIT} again", 60.0)
        self.wait_active()
        self.wait_connected()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server alone, without its workers."""
        self.host.run("systemctl", "kill", "--kill-whom=main", f"--signal={number.name}", UNIT)

    def restart(self) -> None:
        """Start it anew, by its present files, until it is connected."""
        self.host.run("systemctl", "restart", UNIT)
        self.wait_active()
        self.wait_connected()

    def log(self, lines: int = 40) -> str:
        """The end of what it logged."""
        return self.host.sh(f"journalctl --unit tinyfaas --no-pager --lines {lines}", check=False)

    @contextlib.contextmanager
    def client(self, *, lasting: bool = False) -> Iterator[Client]:
        """A client of its broker, in the tests' own process."""
        with (
            Relay(self.host.cable, 1883) as relay,
            Client(relay.port, lasting=lasting, account=self.administrator) as made,
        ):
            yield made

    def _script(self, name: str, *arguments: str) -> str:
        done = self.host.run(f"{TREE}/scripts/{name}", "--wheels", WHEELS, *arguments, timeout_s=_PLAY_S)
        return done.stdout + done.stderr

    def runs(self, function: str) -> Counter[int]:
        """How often each request was run, by what the function `COUNTING` itself wrote down."""
        return Counter(map(int, self.host.run("cat", f"{FUNCTIONS}/{function}/state/runs").stdout.split()))
