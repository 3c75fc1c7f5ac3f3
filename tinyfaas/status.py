"""What the `status` command says: how the server and the device are, in plain numbers."""

from __future__ import annotations

import time
from typing import Any

from tinyfaas.cgroups import Delegation
from tinyfaas.config import Config
from tinyfaas.delivery import Ledger
from tinyfaas.dispatch import Dispatcher
from tinyfaas.forkserver import ForkServer
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
        delegation: Delegation,
        gateway: Gateway,
        dispatcher: Dispatcher,
        pool: Pool,
        forks: ForkServer,
        ledger: Ledger,
        history: History,
    ) -> None:
        self._config = config
        self._version = version
        self._sandbox = sandbox
        self._delegation = delegation
        self._forks = forks
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
            "memory": self._vitals.memory(self._pool.pids(), self._forks.pid),
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
                "triggers": self._dispatcher.feed.counts(),
            },
            "workers": {"threads": self._config.threads, **self._pool.counts()},
            "limits": self._limits(),
            "mqtt": self._gateway.status(),
        }

    def _limits(self) -> dict[str, str]:
        """The mechanisms in force."""
        boxed, groups = not self._sandbox.missing, self._delegation.controllers
        why = {
            "sandbox_missing": self._sandbox.missing,
            "seccomp_missing": self._sandbox.filter_missing,
            "cgroup_missing": self._delegation.missing,
        }
        return {
            "sandbox": self._sandbox.mechanism,
            "seccomp": "on" if self._sandbox.filter else "off",
            "cgroup": ", ".join(sorted(groups)) or "none",
            **{key: reason for key, reason in why.items() if reason},
            "memory": "cgroup, watch" if "memory" in groups else "watch",
            "cpu": "cgroup" if "cpu" in groups else "watch",
            "processes": ", ".join(["cgroup"] * ("pids" in groups) + ["rlimit"] * boxed + ["watch"]),
            "open_files": "rlimit",
            "file_size": "rlimit",
            "timeout": "process namespace ended" if boxed else "process group killed",
        }
