"""The outer bound: a control group around the servers under test, so that a limit which fails takes down the test
and not the machine. Only for root, and only where control groups can be written.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from tests.harness.waiting import eventually

_V1_FILES = {"pids": "pids.max", "memory": "memory.limit_in_bytes"}
_V2_FILES = {"pids": "pids.max", "memory": "memory.max"}

_NOW = (("memory_bytes", "memory.usage_in_bytes"), ("memory_bytes", "memory.current"), ("tasks", "pids.current"))


@dataclass
class Fence:
    """The groups of this run of the suite, one for each controller with v1, one for all with v2."""

    groups: list[Path] = field(default_factory=list)
    missing: str = ""

    def put(self, pid: int) -> None:
        """Bring a process in; what it starts from now on is in as well."""
        for group in self.groups:
            (group / "cgroup.procs").write_text(str(pid), encoding="ascii")

    def usage(self) -> dict[str, int]:
        """What all inside use together: bytes of memory, number of tasks; only what can be told."""
        found = {}
        for group in self.groups:
            for name, file in _NOW:
                with contextlib.suppress(FileNotFoundError):
                    found[name] = int((group / file).read_text(encoding="ascii"))
        return found

    def take_down(self) -> None:
        """Kill what is left inside and remove the groups."""
        for group in self.groups:
            eventually(lambda group=group: _emptied(group), f"{group} to be empty")  # type: ignore[misc]
            group.rmdir()
        self.groups.clear()


def build(pids: int, memory_bytes: int) -> Fence:
    """The bound, or a fence without groups that says why there is none."""
    if os.geteuid() != 0:
        return Fence(missing="no outer bound around the servers under test: only root can set one")
    limits = {"pids": pids, "memory": memory_bytes}
    fence = Fence()
    try:
        for folder, files in _places():
            group = folder / f"tinyfaas-tests-{os.getpid()}"
            group.mkdir()
            fence.groups.append(group)
            for controller, name in files.items():
                (group / name).write_text(str(limits[controller]), encoding="ascii")
    except OSError as error:
        fence.take_down()
        fence.missing = f"no outer bound around the servers under test: {error}"
    if not fence.groups and not fence.missing:
        fence.missing = "no outer bound around the servers under test: no control groups here"
    return fence


def _places() -> Iterator[tuple[Path, dict[str, str]]]:
    """Where groups are made, and the files in them that set the limits."""
    own = _own_groups()
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, where, kind, options, *_ = line.split()
        if kind == "cgroup2" and (
            {"pids", "memory"} <= set((Path(where) / "cgroup.subtree_control").read_text(encoding="ascii").split())
        ):
            yield Path(where), _V2_FILES  # below its root: a group with processes of its own can't hand on controllers
        if kind == "cgroup":
            files = {name: file for name, file in _V1_FILES.items() if name in options.split(",")}
            if files:
                inside = Path(where + own.get(next(iter(files)), "/"))
                yield inside if inside.is_dir() else Path(where), files


def _own_groups() -> dict[str, str]:
    """The group that this process is in, by controller (v1): the bound is set inside it."""
    lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    parts = [line.split(":", 2) for line in lines]
    return {controller: path for _, controllers, path in parts for controller in controllers.split(",")}


def _emptied(group: Path) -> bool:
    """Whether nothing is left in a group, after killing what was."""
    pids = (group / "cgroup.procs").read_text(encoding="ascii").split()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    return not pids


class Peak:
    """The most that all inside a fence had, beyond what they had at entering; looked at every millisecond."""

    def __init__(self, fence: Fence) -> None:
        self._fence = fence
        self._stop = threading.Event()
        self._before: dict[str, int] = {}
        self.beyond: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Peak:
        self._before = self._fence.usage()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.001):
            for name, now in self._fence.usage().items():
                self.beyond[name] = max(self.beyond.get(name, 0), now - self._before[name])
