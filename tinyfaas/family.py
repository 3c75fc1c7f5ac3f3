"""The processes this server starts, and those it inherits: a child whose parent died comes to us, and ends here.

Without a process namespace around a worker, this is what makes sure that nothing outlives it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable
from typing import Any

from tinyfaas.processes import descendants

_SET_CHILD_SUBREAPER = 36
_MOST_ROUNDS = 20
_DEATH_S = 0.05

_changing = threading.Lock()
_ours: set[int] = set()


def adopt_orphans() -> None:
    """From now on, processes whose parents die below us become our children. Without it they go to init."""
    ctypes.CDLL(None, use_errno=True).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def spawn(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a process of our own; raises `OSError`. Whoever has waited for it says so with `forget`."""
    with _changing:
        process = subprocess.Popen(command, **options)  # noqa: S603  (the callers say why)
        _ours.add(process.pid)
    return process


def adopt(fork: Callable[[], int]) -> int:
    """Take in a process that another one forks for us: `fork` returns its id when it has become our child."""
    with _changing:
        pid = fork()
        _ours.add(pid)
    return pid


def forget(pid: int) -> None:
    """A process of our own was waited for."""
    with _changing:
        _ours.discard(pid)


def kill(pid: int) -> None:
    """Kill a process of our own, its group, and everything below it. It is still to be waited for."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGSTOP)  # who is stopped forks no others while we look, and leaves us the processor
    below = descendants(pid)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    for each in below:
        _kill(each)


def end_orphans() -> int:
    """Kill and reap what was inherited, and what comes to us by that; returns how many were reaped.

    Never waits long: the first process of a sandbox ends only when its worker has been reaped, by whoever owns that.
    """
    count = 0
    for _ in range(_MOST_ROUNDS):
        with _changing:
            orphans = [pid for pid in _children() if pid not in _ours]
            for pid in orphans:
                _kill(pid)
        reaped = sum(_reap(pid) for pid in orphans)
        if not reaped:
            break
        count += reaped
    return count


def _reap(pid: int) -> bool:
    """Reap a process that was killed, if it dies soon."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        select.select((pidfd,), (), (), _DEATH_S)
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:  # another thread was faster
        return False
    finally:
        os.close(pidfd)


def _children() -> list[int]:
    found: list[int] = []
    for thread in os.listdir("/proc/self/task"):  # noqa: PTH208  (strings are wanted)
        with contextlib.suppress(OSError), open(f"/proc/self/task/{thread}/children", "rb") as file:  # noqa: PTH123
            found += map(int, file.read().split())
    return found


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)
