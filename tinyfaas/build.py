"""One environment being built: processes that run uploaded code as a function does, closed in and under limits."""

from __future__ import annotations

import os
import resource
import select
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tinyfaas import family, processes
from tinyfaas.errors import BuildFailed, Failure
from tinyfaas.files import size_of
from tinyfaas.model import Limits
from tinyfaas.processes import Usage, descendants
from tinyfaas.sandbox import Sandbox

TAIL_LINES = 40
LONGEST_LINE = 500
_MIB = 1024 * 1024
_BOX_TASKS = 2  # bubblewrap outside, and its first process inside
_CHUNK = 65_536
_TAIL_BYTES = TAIL_LINES * LONGEST_LINE
_MOST_LINES = 5_000
_MOST_FILES = 50_000
_KEPT_FREE_BYTES = 64 * _MIB  # what a build leaves on the disk for everybody else
_LOOK_EVERY_S = 0.1
_LOOK_SHARE = 10  # a large environment takes long to look at: of a build's time this part at most
_SETPRIV = shutil.which("setpriv")
_PRLIMIT = shutil.which("prlimit")
_NICE = shutil.which("nice")


class Build:
    """What is run to make `environment`, one command after the other. One thread runs; others may look and end it."""

    def __init__(
        self, environment: Path, limits: Limits, sandbox: Sandbox, variables: Mapping[str, str], reads: list[Path]
    ) -> None:
        """`limits.timeout_s` is for all commands together, from now on; `reads` is what they have to see."""
        self.limits = limits
        self.boxed = not sandbox.missing
        self._tail = b""
        self._told = 0
        self._environment = environment
        self._sandbox = sandbox
        self._variables = dict(variables)
        self._reads = reads
        self._deadline_s = time.monotonic() + limits.timeout_s
        self._breach: Failure | None = None
        self._changing = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process that runs now; 0 between two."""
        process = self._process
        return process.pid if process else 0

    @property
    def inside(self) -> int:
        """A process that sees what the code that is built sees."""
        pid = self.pid
        return next(iter(descendants(pid)), pid)

    def usage(self, *, enough_bytes: int) -> Usage:
        """What its processes use, without those of the sandbox."""
        overhead = _BOX_TASKS if self.boxed else 0
        most = self.limits.max_processes + overhead
        used = processes.usage((self.pid,), enough_bytes=enough_bytes, enough_tasks=most)
        return Usage(used.memory_bytes, max(0, used.tasks - overhead), used.cpu_s)

    @property
    def lines(self) -> list[str]:
        """The last lines that were printed."""
        return _lines(self._tail)[-TAIL_LINES:]

    @property
    def detail(self) -> str:
        """The same, as one text."""
        return "\n".join(self.lines)

    def end(self, breach: Failure) -> None:
        """Kill what runs, from another thread, because of this."""
        with self._changing:
            if self._process is not None:
                self._breach = self._breach or breach
                family.kill(self._process.pid)

    def run(self, command: list[str], on_line: Callable[[str], None]) -> int:
        """Run a command to its end and end all it has left behind; returns its exit status.

        Raises `BuildFailed` when a limit was passed; `lines` then holds what was printed last.
        """
        self._tail, self._told = b"", 0
        process = family.spawn(  # arguments are ours; the requirements are a file
            self._closed_in(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            bufsize=0, env=self._variables, cwd=self._environment, start_new_session=True,
        )  # fmt: skip
        self._process = process
        try:
            self._follow(process, on_line)
        finally:
            with self._changing:  # from here on nobody else kills: the number may be another's
                self._process = None
            family.kill(process.pid)
            code = process.wait()
            family.forget(process.pid)
            family.end_orphans()
            assert process.stdout is not None
            process.stdout.close()
        if self._breach is not None:
            raise BuildFailed(f"the environment could not be built: {self._breach.message}", detail=self.detail)
        return code

    def _follow(self, process: subprocess.Popen[bytes], on_line: Callable[[str], None]) -> None:
        """Take what is printed and look at time and disk, until the process has ended: not until its pipe has, for
        what it left behind may hold that.
        """
        assert process.stdout is not None
        pipe = process.stdout.fileno()
        os.set_blocking(pipe, False)
        ended = os.pidfd_open(process.pid)
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        poll.register(ended, select.POLLIN)
        next_look_s = 0.0
        try:
            while True:
                ready = [fd for fd, _ in poll.poll(_LOOK_EVERY_S * 1000)]
                if pipe in ready and not self._read(pipe, on_line):
                    poll.unregister(pipe)
                if ended in ready:
                    self._read(pipe, on_line)
                    return
                now_s = time.monotonic()
                if now_s >= self._deadline_s:
                    self.end(BuildFailed("it took too long"))
                elif now_s >= next_look_s:
                    if (breach := self._overfull()) is not None:
                        self.end(breach)
                    looked_s = time.monotonic() - now_s
                    next_look_s = time.monotonic() + max(_LOOK_EVERY_S, _LOOK_SHARE * looked_s)
        finally:
            os.close(ended)

    def _read(self, pipe: int, on_line: Callable[[str], None]) -> bool:
        """Take what is there now; False at the end of the pipe."""
        try:
            data = os.read(pipe, _CHUNK)
        except BlockingIOError:
            return True
        last = self._tail[self._tail.rfind(b"\n") + 1 :]
        self._tail = (self._tail + data)[-_TAIL_BYTES:]
        # Who prints without end is read without end, so that it is not held up; told is then what comes last.
        new = last + data if self._told < _MOST_LINES else self._tail
        if data:
            new = new[: new.rfind(b"\n") + 1]
        lines = _lines(new if self._told < _MOST_LINES else new[-LONGEST_LINE:])
        for line in lines if self._told < _MOST_LINES else lines[-1:]:
            on_line(line)
        self._told += len(lines)
        return bool(data)

    def _overfull(self) -> Failure | None:
        stored, files = size_of(self._environment, most_files=_MOST_FILES)
        if stored > self.limits.max_disk_mb * _MIB:
            return BuildFailed(f"it stored {stored / _MIB:.0f} MiB, {self.limits.max_disk_mb} are allowed")
        if files >= _MOST_FILES:
            return BuildFailed(f"it made {_MOST_FILES} files or more")
        disk = os.statvfs(self._environment)
        if disk.f_bavail * disk.f_frsize < _KEPT_FREE_BYTES:
            return BuildFailed(f"the disk has less than {_KEPT_FREE_BYTES // _MIB} MiB left")
        return None

    def _closed_in(self, command: list[str]) -> list[str]:
        limits = self.limits
        bounds = {"nofile": limits.max_open_files, "fsize": limits.max_disk_mb * _MIB, "core": 0}
        if self.boxed:
            # Elsewhere all processes of the account count. Twice, so that the watch sees a build pass its limit, and
            # ends it, before the kernel refuses it more: refused, it might try for as long as it has time.
            bounds["nproc"] = 2 * limits.max_processes
        bounded = [f"--{name}={_reachable(name, bound)}" for name, bound in bounds.items()]
        inner = [*([_PRLIMIT, *bounded, "--"] if _PRLIMIT else []), *command]
        calm = [_NICE, "-n", "10"] if _NICE else []  # calls go first
        if self.boxed:
            return [*calm, *self._sandbox.build_command(self._environment, limits, inner, self._reads)]
        return [*([_SETPRIV, "--pdeathsig", "KILL", "--no-new-privs", "--"] if _SETPRIV else []), *calm, *inner]


def _lines(text: bytes) -> list[str]:
    lines = (line.rstrip()[:LONGEST_LINE] for line in text.decode("utf-8", "replace").splitlines())
    return [line for line in lines if line]


def _reachable(name: str, bound: int) -> int:
    """A bound, or the server's own where that is lower: who has no privileges can't go beyond."""
    hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))[1]
    return bound if hard == resource.RLIM_INFINITY else min(bound, hard)
