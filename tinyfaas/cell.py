"""A worker's process with all that closes it in: sandbox, control group, limits. Spawned, watched and ended as one."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
from collections.abc import Mapping
from typing import Any

from tinyfaas import family, processes
from tinyfaas.cgroups import Delegation, Group
from tinyfaas.child import faaswire
from tinyfaas.credentials import Credentials
from tinyfaas.errors import BuildFailed
from tinyfaas.fields import SECRET_MASK
from tinyfaas.forkserver import ForkServer
from tinyfaas.model import FunctionSpec, Limits
from tinyfaas.processes import Usage
from tinyfaas.sandbox import Sandbox, nodes_of

_MIB = 1024 * 1024
_PATH = "/usr/local/bin:/usr/bin:/bin"
_HOLDER = "/usr/bin/cat"  # says back what it hears once all walls stand; its end is the end of everything inside
_BOX_TASKS = 3  # bubblewrap outside, its first process inside, and the holder
_BOX_S = 10.0
_ENDING_S = 0.5
_SHORTEST_HIDDEN = 4  # to hide less would garble every text, and tell what it is by its gaps


class Box:
    """A running bubblewrap: namespaces for a process to enter. Whatever is inside ends with it."""

    def __init__(self, command: list[str]) -> None:
        """Wait until its walls stand; raises `BuildFailed`."""
        told, tell = os.pipe()
        try:
            self._process = family.spawn(
                [*command, "--info-fd", str(tell), "--", _HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, bufsize=0, pass_fds=[tell], start_new_session=True, cwd="/", env={},
            )  # fmt: skip
        except OSError as error:
            os.close(told)
            raise BuildFailed(f"the sandbox could not be started: {error.strerror}", detail=str(error)) from None
        finally:
            os.close(tell)
        try:
            self._wait_built()
            self.inside = int(json.loads(os.read(told, 4096))["child-pid"])
            self.pidfd = os.pidfd_open(self.inside)
        except (OSError, ValueError, KeyError) as error:
            self._reap()
            raise BuildFailed(f"the sandbox could not be built: {error}", detail=str(error)) from None
        finally:
            os.close(told)

    @property
    def pid(self) -> int:
        """The process id of bubblewrap itself."""
        return self._process.pid

    def kill(self) -> None:
        """End everything inside at once; what is no process of this box's is not ours to reap."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def close(self) -> None:
        """Reap it after `kill`."""
        os.close(self.pidfd)
        self._reap()

    def _wait_built(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(b"+")
        if not select.select((self._process.stdout,), (), (), _BOX_S)[0]:
            raise OSError(f"it was not built within {_BOX_S:g} s")
        said = self._process.stdout.read(4096)
        if said != b"+":
            raise OSError(said.decode("utf-8", "replace").strip() or "bubblewrap ended")

    def _reap(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        ended = os.pidfd_open(self._process.pid)
        select.select((ended,), (), (), _ENDING_S)  # it ends with what is inside, having reaped that
        os.close(ended)
        self._process.kill()
        self._process.wait()
        family.forget(self._process.pid)


class Cells:
    """Makes cells: knows what all have in common."""

    def __init__(
        self, node: str, sandbox: Sandbox, forks: ForkServer, delegation: Delegation, credentials: Credentials
    ) -> None:
        self.sandbox = sandbox
        self._node = node
        self._forks = forks
        self._delegation = delegation
        self._credentials = credentials

    def try_out(self) -> None:
        """Enter a sandbox once: where bubblewrap may build one, what surrounds the server may still forbid to enter."""
        if self.sandbox.missing:
            return
        try:
            box = Box(self.sandbox.empty())
        except BuildFailed as failure:
            self.sandbox.give_up(failure.message)
            return
        ours, theirs = socket.socketpair()
        ours.close()  # so the worker has nothing to read, and ends
        try:
            with theirs, open(os.devnull, "wb") as out:  # noqa: PTH123  (a descriptor is wanted)
                fds = {"c": theirs.fileno(), "o": out.fileno(), "e": out.fileno(), "n": box.pidfd}
                pid = self._forks.fork(fds)
            os.waitpid(pid, 0)
            family.forget(pid)
        except OSError as error:
            self.sandbox.give_up(f"a sandbox can't be entered: {error}")
        finally:
            _clear(box, None)

    def new(self, spec: FunctionSpec) -> Cell:
        """A cell whose process is about to load its function. Raises `BuildFailed`, and `BadRequest` for a device or
        a secret that is not there.
        """
        nodes_of(spec.limits.devices)  # also where no sandbox needs to know
        secrets = self._credentials.of(spec.surroundings.secrets)
        spec.state_dir.mkdir(parents=True, exist_ok=True)
        box = None if self.sandbox.missing else Box(self.sandbox.command(spec))
        group = None
        try:
            if not self._delegation.missing:
                group = self._delegation.group(spec.limits)
            start = self._start(spec, secrets, boxed=box is not None)
            return Cell(spec, self._forks, box, group, tuple(secrets.values()), start)
        except OSError as error:
            _clear(box, group)
            raise BuildFailed(f"the worker could not be started: {error}", detail=str(error)) from None

    def _start(self, spec: FunctionSpec, secrets: Mapping[str, str], *, boxed: bool) -> dict[str, Any]:
        return {
            "title": f"faas {spec.name}",
            "python": str(spec.python),
            "code_dir": str(spec.code_dir),
            "state_dir": str(spec.state_dir),
            "largest": spec.limits.max_result_bytes,
            "environ": {**_environment(spec, self._node), **spec.surroundings.env, **secrets},
            "bounds": _bounds(spec.limits, boxed=boxed),
            "parent": 0 if boxed else os.getpid(),
            "seccomp": self.sandbox.filter,
        }


class Cell:
    """One worker's process. `channel` is our end of its frames, `pipes` what it prints; `exit_fd` tells its end."""

    def __init__(self, spec: FunctionSpec, forks: ForkServer, box: Box | None, group: Group | None,
                 hidden: tuple[str, ...], start: Mapping[str, Any]) -> None:  # fmt: skip
        """Fork it; raises `OSError`. `hidden` is what no log may show; `start` tells it what to be."""
        parts = [part for text in hidden for part in (text, *text.splitlines())]  # what is printed comes line by line
        self.hidden = tuple(part for part in parts if len(part) >= _SHORTEST_HIDDEN)
        self.limits, self.state_dir = spec.limits, spec.state_dir
        self._box, self._group = box, group
        ours, theirs = socket.socketpair()
        out, said_out = os.pipe2(os.O_CLOEXEC)
        err, said_err = os.pipe2(os.O_CLOEXEC)
        fds = {"c": theirs.fileno(), "o": said_out, "e": said_err}
        if box is not None:
            fds["n" if spec.limits.network else "N"] = box.pidfd
        told = faaswire.frame(faaswire.START, 0, json.dumps(start).encode())
        try:
            if group is not None:
                fds["g"] = group.folder_fd()
            ours.setblocking(False)
            told = told[ours.send(told) :]  # it finds there already what to be, and need not wait for us
            self.pid = forks.fork(fds)
        except OSError:
            ours.close()
            os.close(out)
            os.close(err)
            raise
        finally:
            theirs.close()
            os.close(said_out)
            os.close(said_err)
            if "g" in fds:
                os.close(fds["g"])
        if told:
            ours.setblocking(True)
            with contextlib.suppress(OSError):  # it has died: whoever waits for its answer will see
                ours.sendall(told)
            ours.setblocking(False)
        self.exit_fd = os.pidfd_open(self.pid)
        self.channel = ours
        self.pipes = {out: "stdout", err: "stderr"}
        for fd in self.pipes:
            os.set_blocking(fd, False)

    @property
    def boxed(self) -> bool:
        """Whether a sandbox is around it."""
        return self._box is not None

    @property
    def inside(self) -> int:
        """A process that sees the file systems which the function sees."""
        return self._box.inside if self._box else self.pid

    def hide(self, text: str) -> str:
        """A text without the secrets that were given to the function."""
        for secret in self.hidden:
            text = text.replace(secret, SECRET_MASK)
        return text

    def usage(self, *, enough_bytes: int) -> Usage:
        """What it and all that it started use, without what belongs to the sandbox."""
        most = self.limits.max_processes
        if self._box is None:
            return processes.usage((self.pid,), enough_bytes=enough_bytes, enough_tasks=most)
        roots = (self.pid, self._box.pid)
        used = processes.usage(roots, enough_bytes=enough_bytes, enough_tasks=most + _BOX_TASKS)
        return Usage(used.memory_bytes, max(0, used.tasks - _BOX_TASKS), used.cpu_s)

    def nameless_bytes(self) -> int:
        """What files take up on the disk of its folder that it has deleted and holds open."""
        pids = (self.pid, *processes.descendants(self.pid))
        return processes.nameless_bytes(pids, self.state_dir.stat().st_dev)

    def signal(self, number: int) -> None:
        """Send a signal to it and all that it started."""
        for pid in processes.descendants(self.pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.exit_fd, number)

    def out_of_memory(self) -> bool:
        """Whether the kernel has killed something in it for want of memory."""
        return self._group is not None and self._group.oom_kills() > 0

    def strike(self) -> None:
        """Kill everything in it; from any thread. It is still to be cleared away."""
        if self._group is not None:
            self._group.kill()
        if self._box is not None:
            self._box.kill()
        family.kill(self.pid)

    def wait(self, timeout_s: float) -> int | None:
        """How its process ended, negative for a signal; None if it lives on."""
        if not select.select((self.exit_fd,), (), (), timeout_s)[0]:
            return None
        found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        assert found is not None
        return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status

    def clear(self) -> None:
        """Kill, reap, and take down the walls."""
        self.strike()
        os.waitpid(self.pid, 0)
        family.forget(self.pid)
        _clear(self._box, self._group)
        family.end_orphans()
        self.channel.close()
        os.close(self.exit_fd)

    def close_pipes(self) -> None:
        """What it printed has been read."""
        for fd in self.pipes:
            os.close(fd)


def _clear(box: Box | None, group: Group | None) -> None:
    if box is not None:
        box.kill()
        box.close()
    if group is not None:
        group.remove()


def _bounds(limits: Limits, *, boxed: bool) -> dict[str, int]:
    """What the kernel holds a process to by itself."""
    bounds = {"NOFILE": limits.max_open_files, "FSIZE": limits.max_disk_mb * _MIB, "CORE": 0}
    if boxed:  # elsewhere all processes of the account count, the server's too
        bounds["NPROC"] = limits.max_processes + _BOX_TASKS
    return bounds


def _environment(spec: FunctionSpec, node: str) -> dict[str, str]:
    """What every function sees of the environment: nothing of the server's."""
    return {
        "PATH": f"{spec.python.parent}:{_PATH}",
        "HOME": str(spec.state_dir),
        "LANG": "C.UTF-8",
        "TINYFAAS_STATE_DIR": str(spec.state_dir),
        "TINYFAAS_FUNCTION": spec.name,
        "TINYFAAS_VERSION": str(spec.version),
        "TINYFAAS_NODE": node,
    }
