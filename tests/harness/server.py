"""The real server as a process of its own: started, stopped, killed, and started again on the same data."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.harness.account import Account
from tests.harness.broker import Broker
from tests.harness.client import new_label, wait_presence
from tests.harness.fence import Fence
from tests.harness.installation import Installation
from tests.harness.logbook import Logbook
from tests.harness.waiting import PATIENCE_S

_PASSED_ON = re.compile(r"PIP_.*|(HTTPS?|NO|ALL)_PROXY|(https?|no|all)_proxy|SSL_CERT_(FILE|DIR)|PATH")


class Server:
    """A server with a home (data and functions) and a node name of its own.

    `settings` are keys of the configuration as in its variables, without `TINYFAAS_`: `{"queue_max_requests": 10}`.
    """

    def __init__(
        self, installation: Installation, account: Account, fence: Fence, home: Path, broker: Broker,
        settings: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.node = new_label("node")
        self.broker = broker
        self.home = home
        self.data_dir = home / "data"
        self.functions_dir = home / "functions"
        self.log = Logbook()
        self.instance = ""
        self.process: subprocess.Popen[bytes] | None = None
        self.environ: dict[str, str] = {}  # further variables of the next start
        self._installation = installation
        self._account = account
        self._fence = fence
        self._settings = dict(settings or {})

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self.process is not None
        return self.process.pid

    def spawn(self, **settings: Any) -> subprocess.Popen[bytes]:
        """Start the process and wait for nothing; `settings` are in force for this time only."""
        assert self.process is None, "it runs already"
        self.process = subprocess.Popen(
            self._installation.serve, cwd=self.home, env=self._environment(settings), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True, **self._account.popen(),
        )  # fmt: skip
        self._fence.put(self.process.pid)
        assert self.process.stderr is not None
        self.log.follow(self.process.stderr)
        return self.process

    def start(self, **settings: Any) -> Server:
        """Start it and wait until its presence says that it serves."""
        self.spawn(**settings)
        try:
            self.wait_online()
        except AssertionError:
            print(self.log.tail())
            raise
        return self

    def wait_online(self) -> None:
        """Wait until this start of the server, and no earlier one, has announced itself."""
        presence = wait_presence(self.broker.port, self.node, "online", other_than=self.instance, v5=self.broker.v5,
                                 login=self.broker.login)  # fmt: skip
        self.instance = presence["instance"]

    def signal(self, number: int) -> None:
        """Send the server, and none of its workers, a signal."""
        os.kill(self.pid, number)

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait for its end; returns its exit status."""
        assert self.process is not None
        code = self.process.wait(timeout_s)
        self.log.finish()
        self.process = None
        return code

    def stop(self) -> int:
        """Ask it to stop; returns its exit status."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """Pull its plug."""
        self.signal(signal.SIGKILL)
        self.wait()

    def restart(self, **settings: Any) -> Server:
        """Stop it in order and start it on the same data."""
        assert self.stop() == 0
        return self.start(**settings)

    def close(self) -> None:
        """End it, however it is."""
        if self.process is None:
            return
        self.signal(signal.SIGTERM)
        try:
            self.wait(10.0)
        except subprocess.TimeoutExpired:
            self.kill()

    def _environment(self, settings: Mapping[str, Any]) -> dict[str, str]:
        ours = {
            "mqtt_host": "127.0.0.1",
            "mqtt_port": self.broker.port,
            "node": self.node,
            "data_dir": self.data_dir,
            "functions_dir": self.functions_dir,
            "log_format": "json",
            "mqtt_reconnect_max_s": 0.5,
            **self._settings,
            **settings,
        }
        return {
            **{name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)},
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            **{f"TINYFAAS_{key.upper()}": str(value) for key, value in ours.items() if value is not None},
            **self.environ,
        }
