"""What the kernel tells of the processes below one: which there are, and what they use. Reads /proc."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_FEW = 6  # a worker with its sandbox, and two more
_STALLED_PERCENT = 10.0  # of ten seconds


def _shared_memory() -> int:
    """The device on which the kernel keeps what `memfd_create` makes."""
    fd = os.memfd_create("")
    try:
        return os.fstat(fd).st_dev
    finally:
        os.close(fd)


_MEMFD_DEVICE = _shared_memory()


@dataclass(frozen=True, slots=True)
class Usage:
    """What processes use together: memory in bytes, tasks (threads) there are, and CPU time in seconds so far."""

    memory_bytes: int
    tasks: int
    cpu_s: float


def usage(roots: Iterable[int], *, enough_bytes: int, enough_tasks: int) -> Usage:
    """What the trees of these processes use. Pages that several share count once if it may pass the bound.

    Beyond so many tasks nothing else is asked: a fork bomb lets nobody look into its processes in time.
    """
    roots = tuple(roots)
    pids, tasks = _tree(roots, enough_tasks)
    if tasks > enough_tasks:
        return Usage(0, tasks, 0.0)
    found = [_statistics(each) for each in pids]
    resident, unmapped = sum(each[0] for each in found), nameless_bytes(pids, _MEMFD_DEVICE)
    if resident + unmapped > enough_bytes:
        with _still(roots, enough_tasks) as (pids, tasks):
            if tasks > enough_tasks:
                return Usage(0, tasks, 0.0)
            shares = [_proportional(each) for each in pids]
        resident = sum(each[0] for each in shares)
        unmapped = max(0, unmapped - sum(each[1] for each in shares))
    return Usage(resident + unmapped, tasks, sum(each[1] for each in found))


def nameless_bytes(pids: Iterable[int], device: int) -> int:
    """What files take up that these processes hold open, and that no folder names: deleted ones, or memory.

    Only those of one file system. Each counts once.
    """
    found: dict[int, int] = {}
    for pid in pids:
        folder = f"/proc/{pid}/fd"
        try:
            names = os.listdir(folder)  # noqa: PTH208  (ten times a second for each worker)
        except OSError:
            continue
        for name in names:
            try:
                status = os.stat(f"{folder}/{name}")  # noqa: PTH116  (as above)
            except OSError:
                continue
            if status.st_nlink == 0 and status.st_dev == device:
                found[status.st_ino] = status.st_blocks * 512
    return sum(found.values())


def descendants(pid: int) -> list[int]:
    """The processes below `pid`, nearest first."""
    return _tree((pid,), sys.maxsize)[0][1:]


def stored_bytes(pid: int, folder: str, size_bytes: int) -> int:
    """What is stored in a file system of this very size as the process sees it; 0 while it sees another, or none."""
    try:
        found = os.statvfs(f"/proc/{pid}/root{folder}")
    except OSError:
        return 0
    return (found.f_blocks - found.f_bfree) * found.f_frsize if found.f_blocks * found.f_frsize == size_bytes else 0


def memory_is_short(least_bytes: int) -> bool:
    """Whether less than this is available on the device, or processes have had to wait for memory."""
    available = re.search(rb"^MemAvailable:\s*(\d+)", _read("/proc/meminfo"), re.MULTILINE)
    stalled = re.search(rb"^some avg10=([\d.]+)", _read("/proc/pressure/memory"), re.MULTILINE)
    too_little = available is not None and int(available[1]) * 1024 < least_bytes
    return too_little or (stalled is not None and float(stalled[1]) > _STALLED_PERCENT)


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:  # not every kernel tells of pressure
        return b""


def _tree(roots: Iterable[int], enough_tasks: int) -> tuple[list[int], int]:
    pids, tasks = list(roots), 0
    for each in pids:  # grows while it is walked
        if tasks > enough_tasks:
            break
        folder = f"/proc/{each}/task"
        try:
            threads = os.listdir(folder)  # noqa: PTH208  (ten times a second for each worker)
        except OSError:
            continue
        tasks += len(threads)
        for thread in threads:
            try:
                with open(f"{folder}/{thread}/children", "rb") as file:  # noqa: PTH123  (as above)
                    pids += map(int, file.read().split())
            except OSError:
                continue
    return pids, tasks


def _statistics(pid: int) -> tuple[int, float]:
    """Resident memory in bytes, and CPU time in seconds of the process and of children it has waited for."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123  (as above)
            fields = file.read().rpartition(b")")[2].split()  # the name before may hold anything
        return int(fields[21]) * _PAGE_BYTES, sum(map(int, fields[11:15])) / _TICKS_PER_S
    except (OSError, IndexError):
        return 0, 0.0


@contextlib.contextmanager
def _still(roots: Iterable[int], enough_tasks: int) -> Iterator[tuple[list[int], int]]:
    """Stop the trees of these processes for a moment, where they are more than a few; gives processes and tasks.

    To read a process's share of pages is to wait for a lock that it holds while it forks. Of hundreds that do nothing
    else, on two processors, each takes seconds to come to give it back.
    """
    seen: set[int] = set()
    stopped: list[int] = []
    try:
        while True:
            pids, tasks = _tree(roots, enough_tasks)
            new = [pid for pid in pids if pid not in seen]  # forked before its parent was stopped
            if not new or tasks > enough_tasks or len(pids) <= _FEW:
                break
            seen.update(new)
            running = [pid for pid in new if not _is_stopped(pid)]  # whoever stopped the others lets them go on
            _signal(running, signal.SIGSTOP)
            stopped += running
        yield pids, tasks
    finally:
        _signal(stopped, signal.SIGCONT)


def _is_stopped(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"T"
    except (OSError, IndexError):
        return True


def _signal(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _proportional(pid: int) -> tuple[int, int]:
    """Its share of memory and swap in bytes, and how much of that is of shared memory.

    What can't be told is taken for resident as a whole.
    """
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return _statistics(pid)[0], 0
    fields = dict(line.split(":", 1) for line in lines[1:] if ":" in line)
    share, swapped, shared = (int(fields.get(name, "0 kB").split()[0]) for name in ("Pss", "Swap", "Pss_Shmem"))
    return (share + swapped) * 1024, shared * 1024
