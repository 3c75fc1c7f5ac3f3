"""What the kernel tells of the processes below one: which there are, and what they use. Reads /proc."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

_SLOW_S = 0.02
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process and all its descendants use: memory in bytes, and how many tasks (threads) there are.

    Beyond the bound that was asked for, each is a lower one: with too many tasks memory is not counted at all.
    """

    memory_bytes: int
    tasks: int


def usage(pid: int, *, enough_bytes: int, enough_tasks: int = sys.maxsize) -> Usage:
    """What the tree below and with `pid` uses. Pages that several share are counted once if it may pass the bound.

    Counts no further than to see that a bound is passed. To ask for a share of pages is to wait for the lock that a
    process holds while it forks: hundreds of them, each waiting for its turn, would hold up whoever asks for seconds.
    So where an answer was slow to come, tasks are counted again.
    """
    pids, tasks = _tree(pid, enough_tasks)
    if tasks > enough_tasks:
        return Usage(0, tasks)
    resident = sum(_resident(each) for each in pids)
    if resident <= enough_bytes:
        return Usage(resident, tasks)
    shares = 0
    for each in pids:
        asked_s = time.monotonic()
        shares += _proportional(each)
        if shares > enough_bytes:
            break
        if time.monotonic() - asked_s > _SLOW_S and (now := _tree(pid, enough_tasks)[1]) > enough_tasks:
            return Usage(0, now)
    return Usage(shares, tasks)


def descendants(pid: int) -> list[int]:
    """The processes below `pid`, nearest first."""
    return _tree(pid)[0][1:]


def stored_bytes(pid: int, folder: str, size_bytes: int) -> int:
    """What is stored in a file system of this very size as the process sees it; 0 while it sees another, or none."""
    try:
        found = os.statvfs(f"/proc/{pid}/root{folder}")
    except OSError:
        return 0
    return (found.f_blocks - found.f_bfree) * found.f_frsize if found.f_blocks * found.f_frsize == size_bytes else 0


def _tree(pid: int, enough_tasks: int = sys.maxsize) -> tuple[list[int], int]:
    pids, tasks = [pid], 0
    for each in pids:  # grows while it is walked
        folder = f"/proc/{each}/task"
        try:
            threads = os.listdir(folder)  # noqa: PTH208  (ten times a second for each worker)
        except OSError:
            continue
        tasks += len(threads)
        if tasks > enough_tasks:
            break
        for thread in threads:
            try:
                with open(f"{folder}/{thread}/children", "rb") as file:  # noqa: PTH123  (as above)
                    pids += map(int, file.read().split())
            except OSError:
                continue
    return pids, tasks


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        return 0


def _proportional(pid: int) -> int:
    """Its share of memory and swap; what can't be told is taken for resident as a whole."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return _resident(pid)
    fields = dict(line.split(":", 1) for line in lines[1:] if ":" in line)
    return sum(int(fields.get(name, "0 kB").split()[0]) for name in ("Pss", "Swap")) * 1024
