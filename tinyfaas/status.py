"""What the `status` command says: how the server and the device are, in plain numbers."""

from __future__ import annotations

import time
from typing import Any

from tinyfaas.config import Config
from tinyfaas.delivery import Ledger
from tinyfaas.dispatch import Dispatcher
from tinyfaas.gateway.gateway import Gateway
from tinyfaas.history import History
from tinyfaas.pool import Pool
from tinyfaas.sandbox import Sandbox
from tinyfaas.vitals import Vitals


class Status:
    """Asks every room how it is."""

    def __init__(
        self,
        config: Config,
        version: str,
        sandbox: Sandbox,
        gateway: Gateway,
        dispatcher: Dispatcher,
        pool: Pool,
        ledger: Ledger,
        history: History,
    ) -> None:
        self._config = config
        self._version = version
        self._sandbox = sandbox
        self._gateway = gateway
        self._dispatcher = dispatcher
        self._pool = pool
        self._ledger = ledger
        self._history = history
        self._vitals = Vitals()
        self._started_s = time.monotonic()

    def reload(self, config: Config) -> None:
        """Tell of another configuration."""
        self._config = config

    def __call__(self) -> dict[str, Any]:
        """The keys of the answer to `status`, but for those every answer has."""
        bounds = self._config.queue
        return {
            "status": "running",
            "node": self._config.node.name,
            "version": self._version,
            "uptime_s": round(time.monotonic() - self._started_s, 1),
            "cpu": self._vitals.cpu(),
            "memory": self._vitals.memory(self._pool.pids()),
            "device": self._vitals.device(self._config.data_dir),
            "queue": {
                "waiting": self._dispatcher.waiting(),
                "running": self._dispatcher.running(),
                "held": self._ledger.count,
                "held_bytes": self._ledger.bytes,
                "max_requests": bounds.max_requests,
                "max_bytes": bounds.max_bytes,
                "overloaded": self._ledger.refused,
                "unrecorded": self._history.unrecorded,
            },
            "workers": {"threads": self._config.threads, **self._pool.counts()},
            "limits": self._limits(),
            "mqtt": self._gateway.status(),
        }

    def _limits(self) -> dict[str, str]:
        """The mechanisms in force."""
        boxed = not self._sandbox.missing
        said = {"sandbox_missing": self._sandbox.missing} if self._sandbox.missing else {}
        return {
            "sandbox": self._sandbox.mechanism,
            **said,
            "memory": "watch",
            "processes": "rlimit, watch" if boxed else "watch",
            "open_files": "rlimit",
            "file_size": "rlimit",
            "timeout": "process namespace ended" if boxed else "process group killed",
        }
