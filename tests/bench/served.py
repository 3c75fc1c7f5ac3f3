"""The server as it is measured: it writes its log, at its stock level, into a file that nobody reads meanwhile."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

from tests.bench.contestants import Contestant
from tests.bench.trees import tree
from tests.harness.client import Client
from tests.harness.server import Server
from tests.harness.waiting import PATIENCE_S, eventually


class MeasuredServer(Server):
    """The suite's server, with a base topic of its own where several run at once."""

    @property
    def base(self) -> str:
        """Where its topics begin."""
        return str(self._settings.get("mqtt_base_topic", "faas"))

    @property
    def log_file(self) -> Path:
        """In memory where that can be had: what is written to the disk is counted."""
        place = Path("/dev/shm")
        return place / f"tinyfaas-{self.node}.log" if place.is_dir() else self.home / "server.log"

    def spawn(self, **settings: Any) -> subprocess.Popen[bytes]:
        """Start the process and wait for nothing."""
        assert self.process is None, "it runs already"
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                self._installation.serve, cwd=self.home, env=self._environment(settings), stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=log, start_new_session=True, **self._account.popen(),
            )  # fmt: skip
        self._fence.put(self.process.pid)
        return self.process

    def start(self, **settings: Any) -> MeasuredServer:
        """Start it and wait until its presence says that it serves."""
        self.start_timed(**settings)
        return self

    def start_timed(self, **settings: Any) -> float:
        """Start it; returns the seconds until its presence says that it serves."""
        with Client(self.broker.port, topics=(f"{self.base}/node/{self.node}",)) as client:
            start = len(client.seen)
            begun = time.monotonic()
            process = self.spawn(**settings)
            try:
                presence = client.wait(
                    lambda message: process.poll() is not None
                    or (message.body.get("state") == "online" and message.body.get("instance") != self.instance),
                    f"{self.node} to be online", start, PATIENCE_S * 2,
                )  # fmt: skip
            except AssertionError:
                print(self.log_file.read_text(encoding="utf-8", errors="replace")[-2000:])
                raise
        self.instance = presence.body.get("instance", "")
        return presence.came_s - begun

    def close(self) -> None:
        """End it, and remove its log."""
        super().close()
        self.log_file.unlink(missing_ok=True)

    def contestant(self, function: str = "echo") -> Contestant:
        """One of its functions, as what a load is put on."""
        return Contestant("tinyfaas", f"{self.base}/invoke/{function}", f"{self.base}/response/invoke/{function}")

    def warm(self, client: Client, function: str) -> int:
        """How many idle workers a function has, as the server's own list says."""
        details = client.request(f"{self.base}/admin/list")["details"]
        return next(int(each["warm"]) for each in details if each["function"] == function)

    def wait_cold(self, client: Client, function: str) -> None:
        """Wait until a function has no worker any more."""
        eventually(lambda: self.warm(client, function) == 0, f"{function} to have no worker")

    def processes(self) -> list[int]:
        """Itself and everything that belongs to it."""
        return tree(self.pid)
