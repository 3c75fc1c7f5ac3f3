"""What a process does to itself before it becomes a worker: enter its cell, give up every power, join an environment.

`enter` is for the process in between, which can't be a worker itself: a process namespace is that of later children.
All the rest is for the worker. Each step raises `OSError` with the name of the call that was refused.
"""

from __future__ import annotations

import base64
import ctypes
import io
import os
import resource
import signal
import site
import sys
import time
import types
from collections.abc import Callable, Mapping
from typing import Any

_NAMESPACES = 0x3C020000  # user, process, IPC, UTS and mounts, as in sched.h
_NETWORK, _CGROUP = 0x40000000, 0x02000000
_SET_PDEATHSIG, _SET_DUMPABLE, _SET_NAME, _SET_SECCOMP, _CAPBSET_DROP, _SET_NO_NEW_PRIVS = 1, 4, 15, 22, 24, 38
_SECCOMP_FILTER = 2
_CAPABILITY_VERSION = 0x20080522
_MOST_CAPABILITIES = 64
_CHANNEL = 3
_MOST_DESCRIPTORS = 64
_OOM_SCORE = 900  # when the device runs out of memory, a worker goes before the server and the broker
_NICENESS = 5  # a function that computes does not hold up the server that answers for it

_CLONE3, _INTO_CGROUP = 435, 0x2_0000_0000  # the first is the same on every processor

_libc = ctypes.CDLL(None, use_errno=True)
_libc_at_once = ctypes.PyDLL(None)  # keeps the interpreter's lock: the child must not find it given away
# Made once for all: what a worker makes itself, it has in memory of its own.
_prctl, _capset = _libc.prctl, _libc.capset
_capability_head = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
_no_capabilities = (ctypes.c_uint32 * 6)()


def fork_into(group: int | None) -> int:
    """Fork, with the child in a control group (its folder), if one is given; returns as `os.fork` does.

    The child is born there: to move there would wait for the kernel's other processors, ten milliseconds and more.
    All that the child may do is to fork once more: what Python does after a fork is left out here, and in a group its C
    library does not know that it is another process.
    """
    if group is None:
        return _forked(int(_libc_at_once.fork()))
    # flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup
    arguments = (ctypes.c_uint64 * 11)(_INTO_CGROUP, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, group)
    child = int(_libc_at_once.syscall(_CLONE3, arguments, ctypes.c_size_t(ctypes.sizeof(arguments))))
    if child >= 0:
        return child
    child = _forked(int(_libc_at_once.fork()))  # a filter of system calls refused it
    if child == 0:
        procs = os.open("cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=group)
        os.write(procs, b"0\n")
        os.close(procs)
    return child


def _forked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), "fork")
    return result


def enter(sandbox: int | None, *, network: bool) -> None:
    """Move into the namespaces of a process (its pidfd).

    `network` says that there is one of those too; one that is not left can't be entered.
    """
    if sandbox is not None:
        wanted = _NAMESPACES | (_NETWORK if network else 0)
        if _libc.setns(sandbox, wanted | _CGROUP):  # a kernel may know no such namespace
            _demand("setns", _libc.setns(sandbox, wanted))


def settle(channel: int, stdout: int, stderr: int) -> int:
    """Put the descriptors where a process expects them and close all others; returns the channel's."""
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    if channel != _CHANNEL:
        os.dup2(channel, _CHANNEL, inheritable=False)
    os.closerange(_CHANNEL + 1, _MOST_DESCRIPTORS)
    os.setsid()
    sys.stdin, sys.stdout, sys.stderr = _streams
    return _CHANNEL


def _printing_to(fd: int) -> io.TextIOWrapper:
    """By lines, so that a crash does not swallow a function's last words."""
    return open(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _standard_streams() -> tuple[io.TextIOWrapper, io.TextIOWrapper, io.TextIOWrapper]:
    """stdin, stdout and stderr, which all workers share until they use them; made over pipes, as theirs will be."""
    saved = [os.dup(fd) for fd in (1, 2)]
    reading, writing = os.pipe()
    for fd in (1, 2):
        os.dup2(writing, fd)
    stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  (kept open)
    streams = stdin, _printing_to(1), _printing_to(2)
    for fd, old in zip((1, 2), saved, strict=True):
        os.dup2(old, fd)
    for fd in (*saved, reading, writing):
        os.close(fd)
    return streams


_streams = _standard_streams()


def give_up(start: Mapping[str, Any]) -> None:
    """Set the limits that the kernel holds, give up all privileges, and be the first to go when memory runs out."""
    _prctl(_SET_NAME, start["title"].encode()[:15], 0, 0, 0)
    for name, value in start["bounds"].items():
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        wanted = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (wanted, wanted))
    _try_to(lambda: _write("/proc/self/oom_score_adj", _OOM_SCORE))
    _try_to(lambda: os.nice(_NICENESS))
    _demand("prctl", _prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    for capability in range(_MOST_CAPABILITIES):
        if _prctl(_CAPBSET_DROP, capability, 0, 0, 0):
            break  # the kernel knows no more, or there was nothing to drop
    _demand("capset", _capset(_capability_head, _no_capabilities))
    # Who enters a namespace can't be looked at; the server looks at how much memory its workers use.
    _prctl(_SET_DUMPABLE, 1, 0, 0, 0)


def die_with(parent: int) -> None:
    """Without a sandbox nothing else ends a worker whose server was killed.

    Only when the process in between has ended is the server its parent, and there is a parent to die with.
    """
    between = os.getppid()
    while os.getppid() == between != parent:
        os.sched_yield()
    _prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def join(python: str, environ: Mapping[str, str]) -> None:
    """Be what `python`, of a virtual environment, would be if it had been started with this environment."""
    os.environ.clear()
    os.environ.update(environ)
    time.tzset()
    prefix = os.path.dirname(os.path.dirname(python))  # noqa: PTH120  (plain text is quicker)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    packages = f"{prefix}/lib/{version}/site-packages"
    if not os.path.isdir(packages):  # noqa: PTH112  (as above)
        raise RuntimeError(f"its environment was not built for {version}: upload it again")
    sys.executable = python
    sys.prefix = sys.exec_prefix = prefix
    sys.argv[:] = [""]
    sys.modules["__main__"] = types.ModuleType("__main__")
    site.PREFIXES[:] = [prefix]
    if any(name.endswith(".pth") for name in os.listdir(packages)):  # noqa: PTH208  (as above)
        site.addsitedir(packages)
    else:
        sys.path.append(packages)


def forbid(program: str) -> None:
    """Install a seccomp filter, given as its program in base64; empty for none."""
    if not program:
        return
    instructions = base64.b64decode(program)
    buffer = ctypes.create_string_buffer(instructions, len(instructions))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    filter_ = Program(len(instructions) // 8, ctypes.addressof(buffer))
    _demand("seccomp", _prctl(_SET_SECCOMP, _SECCOMP_FILTER, ctypes.byref(filter_), 0, 0))


def _demand(call: str, result: int) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, f"{call}: {os.strerror(code)}")


def _try_to(do: Callable[[], object]) -> None:
    """What a unit's filter of system calls may refuse, and a worker can do without."""
    try:
        do()
    except OSError:
        pass


def _write(path: str, value: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)  # `open` would load a codec, at every cold start
    os.write(fd, b"%d" % value)
    os.close(fd)
