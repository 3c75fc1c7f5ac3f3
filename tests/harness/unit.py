"""A control group as systemd makes it for a unit, on the kernel's own tree. Only for root."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.harness.waiting import eventually
from tinyfaas.cgroups import Delegation, Group

_numbers = itertools.count(1)


@dataclass
class Unit:
    """A control group as systemd makes it for a unit, with a process that stands for the server."""

    mount: Path
    path: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *command: str, group: Path | None = None) -> subprocess.Popen[bytes]:
        """Start a program in a group; without one, in the unit's own."""
        procs = (group or self.path) / "cgroup.procs"
        shell = ["/bin/sh", "-c", f'echo 0 >"{procs}" && exec "$@"', "sh", *command]
        process = subprocess.Popen(shell, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.processes.append(process)
        return process

    def started(self, *command: str, group: Path | None = None) -> int:
        """Start a program and wait until it is in the group; returns its process id."""
        process = self.start(*command, group=group)
        eventually(lambda: process.pid in pids_of(group or self.path), f"{command[0]} to be in its group")
        return process.pid

    def delegation(self) -> Delegation:
        """What the process that stands for the server finds."""
        return Delegation(self.mount, Path(f"/proc/{self.server}/cgroup"))

    @property
    def server(self) -> int:
        return self.processes[0].pid

    def clear(self) -> None:
        """End everything."""
        Group(self.path).remove()
        for process in self.processes:
            process.kill()
            process.communicate()


@contextlib.contextmanager
def new_unit() -> Iterator[Unit]:
    """A unit without Delegate=; skips the test where none can be made."""
    if os.geteuid() != 0:
        pytest.skip("only root makes control groups")
    lines = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    mount = next((Path(where) for _, where, kind, *_ in lines if kind == "cgroup2"), None)
    if mount is None:
        pytest.skip("no control groups v2 are mounted here")
    path = mount / f"tinyfaas-test-{os.getpid()}-{next(_numbers)}"
    try:
        path.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    unit = Unit(mount, path)
    try:
        yield unit
    finally:
        unit.clear()


def pids_of(group: Path) -> list[int]:
    return [int(pid) for pid in (group / "cgroup.procs").read_text(encoding="ascii").split()]
