"""Processes and all that is below them, as the kernel counts them: right whatever the server is made of."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

_ROLLUP_KB = {"Rss": "rss", "Pss": "pss"}


@dataclass(frozen=True)
class Memory:
    """Bytes. Of `pss`, pages that several processes share are divided among them, so that sums are true."""

    rss: int
    pss: int


def tree(pid: int) -> list[int]:
    """A process and all its descendants that live, itself first."""
    pids = [pid]
    for each in pids:  # grows while it is walked
        for task in Path(f"/proc/{each}/task").glob("*"):
            try:
                pids += map(int, (task / "children").read_text(encoding="ascii").split())
            except OSError:
                continue
    return pids


def memory(pid: int) -> Memory:
    """Of one process; zero if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return Memory(0, 0)
    except PermissionError:  # another account's: what is resident is at least no less
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
        return Memory(pages * 4096, pages * 4096)
    fields = dict(line.split(":", 1) for line in lines[1:] if ":" in line)
    return Memory(*(int(fields.get(name, "0 kB").split()[0]) * 1024 for name in _ROLLUP_KB))


def tree_memory(pid: int) -> Memory:
    """The sums over a process and all its descendants."""
    each = [memory(member) for member in tree(pid)]
    return Memory(sum(one.rss for one in each), sum(one.pss for one in each))


def steady_memory(pid: int, timeout_s: float = 5.0) -> Memory:
    """The sums over a tree once they stay within 100 kB for a moment, or at the end of the time."""
    deadline = time.monotonic() + timeout_s
    last = tree_memory(pid)
    while time.monotonic() < deadline:
        time.sleep(0.3)
        now = tree_memory(pid)
        if abs(now.pss - last.pss) < 100_000:
            return now
        last = now
    return last


def written_bytes(pid: int) -> int:
    """What a process and its descendants have sent to the disk so far, in whole pages."""
    total = 0
    for member in tree(pid):
        try:
            lines = Path(f"/proc/{member}/io").read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        fields = dict(line.split(": ") for line in lines)
        total += int(fields["write_bytes"])
    return total


def stored_bytes(folder: Path) -> int:
    """The sizes of all files below a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def command(pid: int) -> str:
    """The first words of a command line, for a table; folders are left out."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return ""
    return " ".join(word.rpartition("/")[2] for word in words[:4] if word)
