"""The control groups (v2) around workers, in the subtree that systemd has delegated to this server.

A unit with `Delegate=` owns its group and what is made below. A group that hands on controllers may hold no processes
of its own, and systemd 252 starts the server right in it: so the server first moves into a leaf, beside its workers'.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from tinyfaas import log
from tinyfaas.model import Limits

logger = log.get("cgroups")

_LEAF = "server"
_WORKER = "worker-"
_WANTED = ("cpu", "memory", "pids")
_MARKS = ("user.delegate", "trusted.delegate")  # systemd's, the second on old versions
_KILL = "cgroup.kill"
_MIB = 1024 * 1024
_PERIOD_US = 100_000
_EMPTY_S = 5.0  # what was killed may still be writing to a slow SD card
_MOST_ROUNDS = 100


class Delegation:
    """The control group v2 subtree that systemd has delegated to this server, or why there is none.

    `missing` says why groups can't be made, and is empty where they can. `controllers` are those in force for groups,
    of cpu, memory and pids; without any, groups still hold together and end what a worker has started.
    """

    def __init__(self, root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> None:
        """Take the subtree over: this process, and those it shares its group with, move into a leaf. Never raises.

        `root` is where the hierarchy is mounted, at or below; `own` names this process's group.
        """
        self.missing = ""
        self.controllers: frozenset[str] = frozenset()
        self._numbers = itertools.count(1)
        try:
            self._group = _delegated(_own_group(root, own))
            _move_into_leaf(self._group)
            self.controllers = _handed_on(self._group)
        except _NotDelegated as reason:
            self.missing = str(reason)
        except OSError as error:
            self.missing = f"{error.filename}: {error.strerror}"

    def group(self, limits: Limits, extra_tasks: int = 0) -> Group:
        """A new group that holds what is put into it to these limits; `extra_tasks` are not the function's own.

        Raises `OSError`.
        """
        if self.missing:
            raise OSError(self.missing)
        path = self._new_folder()
        try:
            for name, value in _bounds(limits, extra_tasks, self.controllers):
                if (path / name).exists():  # a kernel without swap has no memory.swap.max
                    _write(path / name, value)
        except OSError:
            path.rmdir()
            raise
        return Group(path)

    def sweep(self) -> None:
        """Kill what an earlier run has left behind, and remove its groups."""
        if not self.missing:
            for path in self._group.glob(f"{_WORKER}*"):
                Group(path).remove()

    def close(self) -> None:
        """End all groups with what is in them."""
        self.sweep()

    def _new_folder(self) -> Path:
        for number in self._numbers:
            path = self._group / f"{_WORKER}{number}"
            try:
                path.mkdir()
            except FileExistsError:
                continue
            return path
        raise AssertionError("numbers do not end")


class Group:
    """The control group of one worker. What it counted is lost with `remove`; asked afterwards, it says none."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def procs_fd(self) -> int:
        """A new descriptor for a process to write 0 to, which brings it in. Not inherited by programs it runs.

        A process may do so in namespaces of its own: what counts is who opened it. The caller closes it.
        """
        return os.open(self._path / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)

    def folder_fd(self) -> int:
        """A new descriptor of the group itself, for `clone3` with CLONE_INTO_CGROUP. The caller closes it.

        A process that is born in a group costs nothing; one that moves waits for the kernel's other processors, some
        ten milliseconds.
        """
        return os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def add(self, pid: int) -> None:
        """Bring a process in; what it starts from now on is in as well. Raises `OSError`."""
        _write(self._path / "cgroup.procs", str(pid))

    def memory_bytes(self) -> int | None:
        """What its processes and temporary file systems use, without what the kernel could drop at any time."""
        try:
            used = int(_read(self._path / "memory.current"))
        except OSError:
            return None
        droppable = self._counters("memory.stat")
        return max(0, used - droppable.get("inactive_file", 0) - droppable.get("active_file", 0))

    def oom_kills(self) -> int:
        """Processes that the kernel has killed because the group was at its limit of memory."""
        events = self._counters("memory.events")
        return max(events.get("oom_kill", 0), events.get("oom_group_kill", 0))

    def pids_refused(self) -> int:
        """Processes and threads that were not started because the group was at its limit."""
        return self._counters("pids.events").get("max", 0)

    def cpu_throttled_s(self) -> float:
        """Seconds that its processes had to wait because the group was at its limit."""
        return self._counters("cpu.stat").get("throttled_usec", 0) / 1e6

    def kill(self) -> None:
        """Kill all that is in it, however fast that forks."""
        with contextlib.suppress(FileNotFoundError):
            if (self._path / _KILL).exists():
                _write(self._path / _KILL, "1")
            else:
                self._signal_each()

    def remove(self) -> None:
        """Kill all that is in it, wait for the end of that and remove it. Where it can't be, the log says so."""
        try:
            self.kill()
            self._wait_empty()
            for folder in _bottom_up(self._path):
                folder.rmdir()
        except FileNotFoundError:
            pass  # somebody else was faster
        except OSError as error:
            logger.warning("group_not_removed", group=self._path.name, error=error.strerror)

    def _signal_each(self) -> None:
        """As a kernel before 5.14 needs it: frozen, they start no others meanwhile, and still die."""
        with contextlib.suppress(OSError):
            _write(self._path / "cgroup.freeze", "1")
        for _ in range(_MOST_ROUNDS):
            pids = [pid for folder in _bottom_up(self._path) for pid in _processes(folder)]
            if not pids:
                return
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._wait_empty()

    def _wait_empty(self) -> None:
        """Until no process is in it, but for zombies, or the time is up."""
        deadline_s = time.monotonic() + _EMPTY_S
        with (self._path / "cgroup.events").open("rb", buffering=0) as events:
            changed = select.poll()
            changed.register(events, select.POLLPRI)
            while b"populated 1" in os.pread(events.fileno(), 4096, 0):
                left_s = deadline_s - time.monotonic()
                if left_s <= 0 or not changed.poll(left_s * 1000):
                    break

    def _counters(self, name: str) -> dict[str, int]:
        try:
            lines = _read(self._path / name).splitlines()
        except OSError:
            return {}
        return {key: int(value) for key, _, value in (line.partition(" ") for line in lines)}


class _NotDelegated(Exception):
    """There is no subtree for us, and why."""


def _bounds(limits: Limits, extra_tasks: int, controllers: frozenset[str]) -> Iterator[tuple[str, str]]:
    """The files of a group that hold it to its limits, with what is to be written."""
    if "memory" in controllers:
        yield "memory.max", str(limits.memory_mb * _MIB)
        yield "memory.swap.max", "0"
        yield "memory.oom.group", "1"  # half a worker is of no use
    if "pids" in controllers:
        yield "pids.max", str(limits.max_processes + extra_tasks)
    if "cpu" in controllers and limits.cpu_percent:
        yield "cpu.max", f"{limits.cpu_percent * _PERIOD_US // 100} {_PERIOD_US}"


def _own_group(root: Path, own: Path) -> Path:
    """The folder of this process's group."""
    path = next((line[3:] for line in _read(own).splitlines() if line.startswith("0::")), "")
    for subtree, mounted in _mounts(own.with_name("mountinfo")):
        if mounted.is_relative_to(root) and PurePosixPath(path).is_relative_to(subtree):
            folder = mounted / PurePosixPath(path).relative_to(subtree)
            if ".." not in folder.parts and folder.is_dir():  # a group outside of our namespace is told as /../…
                return folder
    raise _NotDelegated(f"no control groups (v2) of this process below {root}")


def _mounts(mountinfo: Path) -> Iterator[tuple[str, Path]]:
    """Where control groups v2 are mounted: which subtree is seen, and where."""
    for line in _read(mountinfo).splitlines():
        what, _, kind = line.partition(" - ")
        if kind.startswith("cgroup2 "):
            _, _, _, subtree, mounted, *_ = what.split(" ")
            yield _unescaped(subtree), Path(_unescaped(mounted))


def _unescaped(text: str) -> str:
    """Blanks and their like stand as octal numbers in mountinfo."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _delegated(own: Path) -> Path:
    """The group to divide: one's own, or the one above if one is in its leaf already."""
    group = own.parent if own.name == _LEAF and not _processes(own.parent) else own
    if not (group / "cgroup.events").exists():
        raise _NotDelegated("this process is in the root of the control groups: no unit was given a subtree")
    marked = any(_has_mark(group, name) for name in _MARKS)
    if os.geteuid() == 0 and not marked:  # root may write everywhere: that tells nothing
        raise _NotDelegated(f"{group} is not delegated to this service (Delegate=yes in its unit)")
    if os.statvfs(group).f_flag & os.ST_RDONLY:
        raise _NotDelegated(f"{group} is read-only here (ProtectControlGroups=no in its unit)")
    for needed in (group, group / "cgroup.procs", group / "cgroup.subtree_control"):
        if not os.access(needed, os.W_OK):
            raise _NotDelegated(f"{group} is not delegated to this service (Delegate=yes in its unit)")
    if not marked or own != group:  # else systemd made it for this service, with all that is in it
        for pid in _strangers(own, _line_of(os.getpid()) if marked else [os.getpid()]):
            raise _NotDelegated(f"{group} is shared with processes that are not ours, such as {pid}")
    return group


def _has_mark(group: Path, name: str) -> bool:
    try:
        return os.getxattr(group, name) == b"1"
    except OSError:
        return False


def _strangers(group: Path, forebears: list[int]) -> Iterator[int]:
    """Its processes that are neither ours nor what we come from. What ends while it is looked at is none."""
    for pid in _processes(group):
        if pid not in forebears and (line := _line_of(pid)) and os.getpid() not in line:
            yield pid


def _line_of(pid: int) -> list[int]:
    """A process and those it comes from; nothing for one that has ended."""
    line: list[int] = []
    while pid > 0:
        try:
            parent = int(_read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()[1])
        except OSError:
            break
        line.append(pid)
        pid = parent
    return line


def _move_into_leaf(group: Path) -> None:
    """Nothing may be in the group itself once controllers are handed on."""
    leaf = group / _LEAF
    leaf.mkdir(exist_ok=True)
    for _ in range(_MOST_ROUNDS):  # some may be starting others
        pids = _processes(group)
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                _write(leaf / "cgroup.procs", str(pid))
    raise _NotDelegated(f"{group} does not become empty")


def _handed_on(group: Path) -> frozenset[str]:
    """Turn on what can be of the controllers wanted; returns what is on."""
    offered = _read(group / "cgroup.controllers").split()
    for name in _WANTED:
        if name in offered:
            try:
                _write(group / "cgroup.subtree_control", f"+{name}")
            except OSError as error:
                logger.warning("controller_refused", controller=name, error=error.strerror)
    return frozenset(_read(group / "cgroup.subtree_control").split()).intersection(_WANTED)


def _bottom_up(path: Path) -> Iterator[Path]:
    """A group and those below it, the lowest first."""
    for folder, _, _ in os.walk(path, topdown=False):
        yield Path(folder)


def _processes(group: Path) -> list[int]:
    return [int(pid) for pid in _read(group / "cgroup.procs").split()]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise _named(error, path) from None


def _write(path: Path, text: str) -> None:
    """Write in one go, as the kernel wants it."""
    try:
        with path.open("wb", buffering=0) as file:
            file.write(text.encode("ascii"))
    except OSError as error:
        raise _named(error, path) from None


def _named(error: OSError, path: Path) -> OSError:
    """The same with the file's name, which only opening gives it. A group that went meanwhile is one not found."""
    code = errno.ENOENT if error.errno == errno.ENODEV else error.errno
    return OSError(code, error.strerror, str(path))
