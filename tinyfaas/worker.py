"""One child process that serves one version of one function: spawn, handshake, call, kill, reap."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinyfaas import family
from tinyfaas.child import faaswire
from tinyfaas.errors import BadResult, BuildFailed, Crashed, Failure, FunctionError, OutOfMemory, Timeout
from tinyfaas.model import FunctionSpec
from tinyfaas.output import Output
from tinyfaas.processes import descendants
from tinyfaas.protocol import decode_result
from tinyfaas.sandbox import Sandbox, nodes_of

CHILD = Path(__file__).parent / "child"
_MIB = 1024 * 1024
_SLACK_S = 1.0  # how long a worker that closed its channel may take to die by itself
_BY_SIGNAL = 128
_PATH = "/usr/local/bin:/usr/bin:/bin"
# A worker dies with the server even if it never looks at its channel. The kernel ties that to the spawning thread,
# so workers are spawned by threads that live as long as the server serves.
_SETPRIV = shutil.which("setpriv")
_DIE_WITH_SERVER = [_SETPRIV, "--pdeathsig", "KILL", "--no-new-privs", "--"] if _SETPRIV else []


class Worker:
    """A warm process. Used by one thread at a time; every failure to answer ends it."""

    def __init__(self, spec: FunctionSpec, node: str, sandbox: Sandbox) -> None:
        self.spec = spec
        self.limits = spec.limits
        self.state_dir = spec.state_dir
        self.idle_since_s = time.monotonic()
        self._number = 0
        self._dead: str | None = None
        self._breach: Failure | None = None
        self.boxed = not sandbox.missing
        self.overhead_tasks = 2 if self.boxed else 0  # bubblewrap outside, and its first process inside
        nodes_of(spec.limits.devices)  # raises for what is not there, also where no sandbox needs to know
        ours, theirs = socket.socketpair()
        spec.state_dir.mkdir(parents=True, exist_ok=True)
        try:
            self._process = family.spawn(
                self._command(sandbox, theirs.fileno()),
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
                pass_fds=[theirs.fileno()], start_new_session=True, cwd=spec.state_dir, env=_environment(spec, node),
            )  # fmt: skip
        except OSError as error:
            ours.close()
            raise BuildFailed(f"the worker could not be started: {error.strerror}", detail=str(error)) from None
        finally:
            theirs.close()
        ours.setblocking(False)
        self._channel = ours
        self._channel_fd = ours.fileno()
        assert self._process.stdout is not None and self._process.stderr is not None
        pipes = {self._process.stdout.fileno(): "stdout", self._process.stderr.fileno(): "stderr"}
        self._output = Output(spec.name, spec.version, pipes)
        self._poll = select.poll()
        self._poll.register(self._channel_fd, select.POLLIN)
        # A child that the function left may hold the other end of the channel: its end alone does not tell.
        self._exit_fd = os.pidfd_open(self._process.pid)
        self._poll.register(self._exit_fd, select.POLLIN)
        for fd in pipes:
            os.set_blocking(fd, False)
            self._poll.register(fd, select.POLLIN)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def inside(self) -> int:
        """A process that sees what the function sees."""
        return next(iter(descendants(self.pid)), self.pid)

    def usable(self) -> bool:
        """Whether it can be called: it lives, and nothing unasked stands in its channel. Logs what it printed since."""
        if self._dead is None:
            for fd, _ in self._poll.poll(0):
                if fd in (self._channel_fd, self._exit_fd):
                    self.kill("ended or spoke without being asked")
                    break
                if not self._output.read(fd):
                    self._poll.unregister(fd)
        return self._dead is None

    def wait_ready(self, timeout_s: float) -> None:
        """Wait until func.py is loaded; raises `BuildFailed` with what its import said."""
        try:
            kind, _, body = self._receive(time.monotonic() + timeout_s, faaswire.LARGEST_ERROR_BYTES)
        except Timeout:
            raise BuildFailed(f"func.py was not loaded within {timeout_s:g} s", detail="") from None
        except (Crashed, OutOfMemory) as failure:
            raise BuildFailed(f"loading func.py ended its process: {failure.message}", detail="") from None
        self._output.end()
        if kind != faaswire.READY:
            self.kill("was not ready")
            said = _object(body)
            raise BuildFailed(str(said.get("error", "func.py could not be loaded")), detail=str(said.get("detail", "")))

    def call(self, invocation: str, payload: bytes) -> bytes:
        """Run `main` for a request's payload; returns the result as JSON. Raises a `Failure` for anything else."""
        limits = self.spec.limits
        deadline_s = time.monotonic() + limits.timeout_s
        self._number = (self._number + 1) & 0xFFFFFFFF
        self._output.begin(invocation)
        self._send(faaswire.frame(faaswire.CALL, self._number, payload), deadline_s)
        largest = max(limits.max_result_bytes, faaswire.LARGEST_ERROR_BYTES)
        try:
            kind, number, body = self._receive(deadline_s, largest)
        except Timeout:
            raise Timeout(f"it ran longer than {limits.timeout_s:g} s and was killed") from None
        finally:
            self._output.end()
        if number != self._number or kind not in (faaswire.RESULT, faaswire.ERROR):
            self.kill("wrote to its frame channel")
            raise Crashed("the function wrote to its frame channel")
        if kind == faaswire.ERROR:
            raise self._failure(_object(body))
        try:
            return decode_result(body)
        except (ValueError, RecursionError):
            self.kill("sent a result that is not JSON")
            raise BadResult("the result is not JSON") from None

    def kill(self, reason: str) -> None:
        """End the process and everything it has started, and reap it."""
        if self._dead is not None:
            return
        self._dead = reason
        family.kill(self._process.pid)
        self._process.wait()
        family.forget(self._process.pid)
        family.end_orphans()
        for fd in self._output.pipes:
            self._output.read(fd)
        self._output.end()
        self._channel.close()
        os.close(self._exit_fd)
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()

    def end(self, breach: Failure) -> None:
        """Kill the process from another thread, because of this."""
        self._breach = breach
        self.interrupt()

    def interrupt(self) -> None:
        """Kill the process from another thread; the one that waits for its answer sees it die."""
        family.kill(self._process.pid)

    def _command(self, sandbox: Sandbox, channel: int) -> list[str]:
        spec, limits = self.spec, self.spec.limits
        bounds = {"NOFILE": limits.max_open_files, "FSIZE": limits.max_disk_mb * _MIB, "CORE": 0}
        if self.boxed:  # elsewhere all processes of the account count, the server's too
            bounds["NPROC"] = limits.max_processes + self.overhead_tasks
        inner = [str(spec.python), "-I", str(CHILD), str(channel), str(spec.code_dir), str(limits.max_result_bytes),
                 ",".join(f"{name}={bound}" for name, bound in bounds.items())]  # fmt: skip
        return sandbox.command(spec, inner, [CHILD]) if self.boxed else [*_DIE_WITH_SERVER, *inner]

    def _failure(self, said: Mapping[str, Any]) -> Failure:
        error = str(said.get("error", "it failed"))
        if said.get("code") == OutOfMemory.code:
            self.kill("ran out of memory")
            return OutOfMemory(error)
        if said.get("code") == BadResult.code:
            return BadResult(error)
        details = {key: str(said[key]) for key in ("error_type", "traceback") if said.get(key)}
        return FunctionError(error, **details)

    def _send(self, data: bytes, deadline_s: float) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self._channel.send(view) :]
            except BlockingIOError:
                self._wait_writable(deadline_s)
            except OSError:
                raise self._died() from None

    def _wait_writable(self, deadline_s: float) -> None:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0 or not select.select((), (self._channel_fd,), (), left_s)[1]:
            self.kill("did not read its call")
            raise Timeout("it did not take its call in time and was killed")

    def _receive(self, deadline_s: float, largest: int) -> tuple[int, int, bytes]:
        """The next frame as kind, number and body, while logging what is printed."""
        buffer = bytearray()
        wanted = faaswire.HEADER.size
        while True:
            left_ms = (deadline_s - time.monotonic()) * 1000
            ready = self._poll.poll(left_ms) if left_ms > 0 else []
            if not ready:
                self.kill("ran too long")
                raise Timeout("it ran too long and was killed")
            fds = [fd for fd, _ in ready]
            for fd in fds:  # what was printed before the answer is logged before the answer
                if fd in self._output.pipes and not self._output.read(fd):
                    self._poll.unregister(fd)
            if self._channel_fd in fds:
                self._read_into(buffer)
            elif self._exit_fd in fds:
                raise self._died()
            if len(buffer) < wanted:
                continue
            length, kind, number = faaswire.HEADER.unpack_from(buffer)
            wanted = faaswire.HEADER.size + length
            if length > largest or len(buffer) > wanted:
                self.kill("wrote to its frame channel")
                raise Crashed("the function wrote to its frame channel")
            if len(buffer) == wanted:
                return kind, number, bytes(memoryview(buffer)[faaswire.HEADER.size :])

    def _read_into(self, buffer: bytearray) -> None:
        try:
            data = self._channel.recv(1_048_576 if buffer else 65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            raise self._died()
        buffer += data

    def _died(self) -> Failure:
        """How the process ended; one that lives on without its channel is killed."""
        try:
            code: int | None = self._process.wait(_SLACK_S)
        except subprocess.TimeoutExpired:
            code = None
        self.kill("died")
        if self._breach is not None:
            return self._breach
        if code is not None and self.boxed and code > _BY_SIGNAL:
            code = _BY_SIGNAL - code  # as bubblewrap says it
        if code is None:
            return Crashed("the function closed its frame channel")
        if code < 0:
            return Crashed(f"its process was killed by {_signal_name(-code)}")
        return Crashed(f"its process exited with status {code}")


def _environment(spec: FunctionSpec, node: str) -> dict[str, str]:
    """All that a function sees of the environment: nothing of the server's."""
    return {
        "PATH": f"{spec.python.parent}:{_PATH}",
        "HOME": str(spec.state_dir),
        "LANG": "C.UTF-8",
        "TINYFAAS_STATE_DIR": str(spec.state_dir),
        "TINYFAAS_FUNCTION": spec.name,
        "TINYFAAS_VERSION": str(spec.version),
        "TINYFAAS_NODE": node,
    }


def _object(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
