"""Another broker than mosquitto: RabbitMQ with its MQTT plugin, where it is installed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

from tests.harness.account import Account
from tests.harness.broker import Broker
from tests.harness.waiting import PATIENCE_S, eventually, free_port, listens

_PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
_SLOW_START_S = 90.0
_CONFIGURATION = """\
listeners.tcp = none
mqtt.listeners.tcp.1 = 127.0.0.1:{port}
mqtt.allow_anonymous = true
mqtt.default_user = guest
mqtt.default_pass = guest
mqtt.prefetch = 10000
mqtt.subscription_ttl = 86400000
log.console = true
log.console.level = warning
log.file = false
"""


def missing() -> str:
    """Why there can be no RabbitMQ here; empty if there can."""
    if _PROGRAM.exists() and shutil.which("epmd"):
        return ""
    return "rabbitmq-server is not installed: scripts/test faults does that"


class Rabbit(Broker):
    """With a node, a name server and a folder of its own, so that it meets no other of this machine."""

    v5 = False

    def __init__(self, folder: Path, account: Account) -> None:
        self.port = free_port()
        self.log_file = folder / "rabbit.log"
        self._account = account
        self._process: subprocess.Popen[bytes] | None = None
        self._names_port, self._node_port = free_port(), free_port()
        (folder / "rabbitmq.conf").write_text(_CONFIGURATION.format(port=self.port), encoding="utf-8")
        (folder / "enabled_plugins").write_text("[rabbitmq_mqtt].\n", encoding="utf-8")
        self._environ = {
            "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin",
            "LANG": "C.UTF-8",
            "HOME": str(folder),
            "ERL_EPMD_PORT": str(self._names_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"tinyfaas-{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._node_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_FEATURE_FLAGS_FILE": str(folder / "feature_flags"),
        }
        self._names = self._run(["epmd", "-port", str(self._names_port)])
        eventually(lambda: listens(self._names_port), "the name server to listen")

    def start(self) -> Rabbit:
        """Start it, and wait until it listens."""
        process = self._process = self._run([str(_PROGRAM)])
        eventually(
            lambda: process.poll() is not None or listens(self.port), "RabbitMQ to listen", timeout_s=_SLOW_START_S
        )
        assert process.poll() is None, f"RabbitMQ ended:\n{self.log()}"
        return self

    def stop(self) -> None:
        """Stop it in order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Pull its plug."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """End it, and its name server."""
        self.kill()
        self._names.kill()
        self._names.wait(PATIENCE_S)

    def _run(self, command: list[str]) -> subprocess.Popen[bytes]:
        with self.log_file.open("ab") as log:
            return subprocess.Popen(
                command, env=self._environ, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, **self._account.popen(),
            )  # fmt: skip

    def _end(self, number: int) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, number)
            self._process.wait(PATIENCE_S)
            self._process = None
