"""Which processes there are on this machine: what a function left behind can't hide from the suite."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def running(text: str) -> list[int]:
    """The processes in whose command line this text stands."""
    return [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if text in _command_line(folder)]


def zombies(parent: int) -> list[int]:
    """The children of a process that have ended and were not reaped."""
    return [pid for pid, state, ppid in map(_status, Path("/proc").glob("[0-9]*")) if ppid == parent and state == "Z"]


def below(pid: int) -> set[int]:
    """The processes that come from this one. The server inherits those whose parents die: none can leave."""
    found = {pid}
    families = [(each, parent) for each, _, parent in map(_status, Path("/proc").glob("[0-9]*"))]
    while more := {each for each, parent in families if parent in found} - found:
        found |= more
    return found - {pid}


def fork_server(server: int) -> int:
    """The fork server of a server: of those that are what a worker is forked from, the one with no function's name."""
    (found,) = [pid for pid in below(server) & set(running("/tinyfaas/child")) if not name(pid).startswith("faas ")]
    return found


def name(pid: int) -> str:
    """What a process calls itself; empty where there is none."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def resident_bytes(pid: int) -> int:
    """The memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE_BYTES


def share_bytes(pids: set[int]) -> int:
    """The memory of these processes, what several share counted once; 0 where only root may know."""
    found = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
            found += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return found


def descriptors(pid: int) -> int:
    """How many files a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _command_line(folder: Path) -> str:
    try:
        return (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""


def _status(folder: Path) -> tuple[int, str, int]:
    try:
        fields = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0, "", 0
    return int(folder.name), fields[0], int(fields[1])
