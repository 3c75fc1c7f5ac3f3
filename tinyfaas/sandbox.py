"""The sandbox around each worker: bubblewrap, where this system lets an unprivileged process use namespaces.

Inside there is a read-only system, the function's own code and environment, its own state folder to write to, a
private /tmp, and a process namespace whose end is the end of everything that was started in it.
"""

from __future__ import annotations

import glob
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinyfaas import log
from tinyfaas import seccomp as seccomp_filter
from tinyfaas.errors import BadRequest, ConfigError
from tinyfaas.model import FunctionSpec, Limits

logger = log.get("sandbox")

_PROBE_S = 10.0
_MIB = 1024 * 1024
PRIVATE = ("/tmp", "/dev/shm")  # noqa: S108  (those of the sandbox, not the system's)
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
# What programs look up, and nothing that tells of this device's secrets.
_LOOKED_UP = (
    "alternatives", "ca-certificates", "gai.conf", "group", "host.conf", "hosts", "ld.so.cache", "ld.so.conf",
    "ld.so.conf.d", "localtime", "mime.types", "nsswitch.conf", "os-release", "passwd", "pip.conf", "protocols",
    "resolv.conf", "services", "ssl", "timezone",
)  # fmt: skip
_NAMESPACES = ("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try")


_DEVICES = {
    "camera": ("/dev/video*", "/dev/media*", "/dev/vchiq", "/dev/dma_heap"),
    "gpio": ("/dev/gpiochip*", "/dev/gpiomem*"),
    "i2c": ("/dev/i2c-*",),
    "serial": ("/dev/serial*", "/dev/ttyAMA*", "/dev/ttyS*", "/dev/ttyUSB*", "/dev/ttyACM*"),
    "spi": ("/dev/spidev*",),
}


def nodes_of(devices: tuple[str, ...]) -> list[str]:
    """The nodes of these devices; raises `BadRequest` for what is none, or what this computer lacks."""
    found: list[str] = []
    for device in devices:
        patterns = _DEVICES.get(device, (device,))
        if not patterns[0].startswith("/dev/") or ".." in patterns[0]:
            raise BadRequest(f"devices: {device!r} is none of {', '.join(_DEVICES)}, or a path below /dev")
        nodes = [node for pattern in patterns for node in sorted(glob.glob(pattern))]  # noqa: PTH207  (text is wanted)
        if not nodes:
            raise BadRequest(f"devices: this computer has no {device} ({', '.join(patterns)})")
        found += nodes
    return found


class Sandbox:
    """How workers are closed in. `mechanism` is `bubblewrap` or `none`; `missing` says why it is none.

    `filter` is the seccomp program in base64; empty where there is none, and `filter_missing` says why.
    """

    def __init__(self, mode: str, *, seccomp: bool = True) -> None:
        """Try it once. Raises `ConfigError` where the mode is unknown; a missing sandbox raises nothing."""
        if mode not in ("auto", "required", "off"):
            raise ConfigError(f"sandbox: {mode!r} is none of auto, required, off")
        self.required = mode == "required"
        self.missing = "switched off" if mode == "off" else why_not({})
        self.mechanism = "none" if self.missing else "bubblewrap"
        self._view = [] if self.missing else _system_view()
        off = mode == "off" or not seccomp
        self.filter, self.filter_missing = ("", "switched off") if off else seccomp_filter.program()

    @property
    def forbids_running(self) -> bool:
        """Whether functions may not run because there is no sandbox and one is required."""
        return self.required and bool(self.missing)

    def give_up(self, reason: str) -> None:
        """There is none after all."""
        self.missing, self.mechanism = reason, "none"

    def empty(self) -> list[str]:
        """The command that makes a cell for nobody."""
        return [*self._view]

    def command(self, spec: FunctionSpec) -> list[str]:
        """The command that makes a function's cell, but for the program that keeps it."""
        environment = spec.python.parent.parent
        room = str(spec.limits.memory_mb * _MIB)
        return [
            *self._view,
            *([] if spec.limits.network else ["--unshare-net"]),
            *(word for name in PRIVATE for word in ("--size", room, "--perms", "1777", "--tmpfs", name)),
            *(word for path in (environment, spec.code_dir) for word in ("--ro-bind", str(path), str(path))),
            "--bind", str(spec.state_dir), str(spec.state_dir),
            *(word for node in nodes_of(spec.limits.devices) for word in ("--dev-bind", node, node)),
            "--remount-ro", "/dev", "--remount-ro", "/",
        ]  # fmt: skip

    def build_command(self, environment: Path, limits: Limits, inner: list[str], reads: list[Path]) -> list[str]:
        """The command that runs `inner` closed in to build an environment, the only folder that it can write to.

        `reads` are further files and folders it has to see; one that holds the environment is not shown.
        """
        room = str(limits.memory_mb * _MIB)
        shown = [path for path in reads if not environment.is_relative_to(path) and not path.is_relative_to("/usr")]
        return [
            *self._view,
            *(word for name in PRIVATE for word in ("--size", room, "--perms", "1777", "--tmpfs", name)),
            *(word for path in shown for word in ("--ro-bind", str(path), str(path))),
            "--bind", str(environment), str(environment),
            "--remount-ro", "/dev", "--remount-ro", "/",
            "--chdir", str(environment),
            "--", *inner,
        ]  # fmt: skip


def _system_view() -> list[str]:
    """What every sandbox begins with."""
    command = [str(shutil.which("bwrap")), *_NAMESPACES, "--die-with-parent", "--new-session"]
    for name in _SYSTEM:
        path = Path(name)
        if path.is_symlink():
            command += ["--symlink", str(path.readlink()), name]
        elif path.is_dir():
            command += ["--ro-bind", name, name]
    prefix = Path(sys.base_prefix)
    if not prefix.is_relative_to("/usr"):  # an interpreter that was not installed by Debian
        command += ["--ro-bind", str(prefix), str(prefix)]
    for name in _LOOKED_UP:
        path = Path("/etc", name)
        if path.exists():
            command += ["--ro-bind", str(path.resolve()), str(path)]
    return [*command, "--ro-bind", "/sys", "/sys", "--proc", "/proc", "--dev", "/dev"]


def why_not(account: Mapping[str, Any]) -> str:
    """Why there is no sandbox here; empty where there is one. `account` is whose, as `subprocess` takes it."""
    if shutil.which("bwrap") is None:
        return "bubblewrap is not installed (apt install bubblewrap)"
    try:
        tried = subprocess.run(  # noqa: S603  (a fixed command)
            [*_system_view(), "--", "/bin/true"], stdin=subprocess.DEVNULL, capture_output=True, timeout=_PROBE_S,
            check=False, **account,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap can't be run: {error}"
    return "" if tried.returncode == 0 else tried.stderr.decode("utf-8", "replace").strip() or "bubblewrap failed"
