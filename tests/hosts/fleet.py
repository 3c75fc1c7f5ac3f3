"""Hosts of one run, and what this machine needs for them."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType

from tests.hosts.cgroups import CgroupTree
from tests.hosts.host import Host
from tests.hosts.image import CACHE, image
from tests.hosts.network import Network

_RUNS = 64
_NEEDED = {
    "systemd-nspawn": "systemd-container", "mmdebstrap": "mmdebstrap", "ip": "iproute2", "ssh-keygen": "openssh-client",
    "unshare": "util-linux", "nsenter": "util-linux", "setpriv": "util-linux",
}  # fmt: skip
_CGROUPS = Path("/sys/fs/cgroup")
_CONTROLLERS = ("unified", "systemd", "memory", "cpu", "cpuacct", "pids")


def missing() -> str:
    """Why no host can be booted here; empty where one can."""
    if os.geteuid() != 0:
        return "booting hosts takes root"
    if packages := sorted({package for command, package in _NEEDED.items() if shutil.which(command) is None}):
        return f"booting hosts takes {', '.join(packages)}, which scripts/test hosts installs"
    tried = subprocess.run(["unshare", "--mount", "--net", "true"], capture_output=True, text=True, check=False)
    return f"no namespaces here: {tried.stderr.strip()}" if tried.returncode else ""


class Fleet:
    """Boots hosts; ends them all when it is left. Several runs on one machine don't meet."""

    def __init__(self) -> None:
        CACHE.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._run, self._lock = _free_run()
        self._home = CACHE / "runs" / str(self._run)
        self._cgroups = [CgroupTree(path) for path in _roots(f"tinyfaas-tests-{self._run}")]
        self._sweep()
        self._network = Network(self._run)
        self._hosts: list[Host] = []
        self._made = 0

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for host in self._hosts:
            host.clear()
        self._network.clear()
        self._sweep()
        os.close(self._lock)

    def boot(self, suite: str, count: int = 1, *, bare: bool = False) -> list[Host]:
        """New hosts of a suite, up. `bare` ones lack what an installation fetches."""
        root = image(suite, bare=bare)
        hosts = [self._new(root) for _ in range(count)]
        for host in hosts:
            host.start()
        for host in hosts:
            host.wait_up()
        return hosts

    def discard(self, host: Host) -> None:
        """End a host that nobody needs any more."""
        host.clear()
        self._hosts.remove(host)

    def _sweep(self) -> None:
        """End and remove what this run's number still has, were it from a run that was killed."""
        for cgroup in self._cgroups:
            cgroup.kill()
        for cgroup in self._cgroups:
            cgroup.remove()
        shutil.rmtree(self._home, ignore_errors=True)

    def _new(self, root: Path) -> Host:
        self._made += 1
        name = f"pi{self._made}"
        cgroups = [CgroupTree(each.path / name) for each in self._cgroups]
        host = Host(name, root, self._home / name, self._network.join(self._made), cgroups)
        self._hosts.append(host)
        return host


def _free_run() -> tuple[int, int]:
    """A number that no other run on this machine has, and the lock that keeps it so."""
    for run in range(_RUNS):
        lock = os.open(CACHE / f"run-{run}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return run, lock
    raise RuntimeError(f"{_RUNS} runs at once")


def _roots(name: str) -> list[Path]:
    """Where this machine's control groups for a run lie: one for each hierarchy."""
    if (_CGROUPS / "cgroup.controllers").exists():
        return [_CGROUPS / name]
    return [_CGROUPS / each / name for each in _CONTROLLERS if (_CGROUPS / each).is_dir()]
