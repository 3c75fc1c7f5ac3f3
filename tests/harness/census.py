"""Which processes there are on this machine: what a function left behind can't hide from the suite."""

from __future__ import annotations

from pathlib import Path


def running(text: str) -> list[int]:
    """The processes in whose command line this text stands."""
    return [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if text in _command_line(folder)]


def zombies(parent: int) -> list[int]:
    """The children of a process that have ended and were not reaped."""
    return [pid for pid, state, ppid in map(_status, Path("/proc").glob("[0-9]*")) if ppid == parent and state == "Z"]


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
