"""The device that is examined: its files, its programs, and the server that is installed on it."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tinyfaas.config import Config, Mqtt

UNIT = "tinyfaas.service"
AS_ROOT = "sudo tinyfaas doctor"  # what is refused to an account like this one
_COMMAND_S = 3.0


@dataclass(frozen=True, slots=True)
class Settings:
    """The server's settings; `problem` says why they can't be used, and they are the defaults then.

    `is_hidden` tells that they may be all right, and this account may not read them.
    """

    config: Config = field(default_factory=Config)
    origin: str = "defaults"
    problem: str = ""
    is_hidden: bool = False

    @property
    def mqtt(self) -> Mqtt:
        """The broker and how to speak to it."""
        return self.config.mqtt


@dataclass(frozen=True, slots=True)
class Device:
    """What checks look at. `service` is what systemd says of the server's unit, empty where there is none.

    Files are read below `root`. With a root that is not `/`, a folder laid out like some device, no program is run.
    """

    root: Path = Path("/")
    settings: Settings = field(default_factory=Settings)
    service: Mapping[str, str] = field(default_factory=dict)
    machine: str = os.uname().machine
    pointer_bits: int = struct.calcsize("P") * 8

    @property
    def is_here(self) -> bool:
        """Whether it is the one we run on."""
        return self.root == Path("/")

    @property
    def account(self) -> str:
        """Who root should try things as: the service's user, or nobody where there is no service."""
        return (self.service.get("User") or "root") if self.service else "nobody"

    def at(self, path: str | Path) -> Path:
        """Where a path of the device is to be found."""
        return self.root / str(path).lstrip("/")

    def text(self, path: str) -> str | None:
        """What a file says, without blanks around; None where it is not there or can't be read."""
        try:
            return self.at(path).read_text(encoding="utf-8", errors="replace").strip(" \t\r\n\0")
        except OSError:
            return None

    def find(self, pattern: str) -> list[Path]:
        """The files that match a pattern, sorted."""
        return sorted(self.root.glob(pattern.lstrip("/")))

    def program(self, name: str) -> str | None:
        """Where a program is, on the path of whoever asks."""
        folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
        return shutil.which(name, path=os.pathsep.join(str(self.at(folder)) for folder in folders))

    def output(self, *command: str) -> str | None:
        """What a command prints; None where it can't be run, fails, or takes too long."""
        program = self.program(command[0]) if self.is_here else None
        if program is None:
            return None
        try:
            ran = subprocess.run(  # noqa: S603  (fixed commands)
                [program, *command[1:]], stdin=subprocess.DEVNULL, capture_output=True, timeout=_COMMAND_S, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return ran.stdout.decode("utf-8", "replace").strip()

    def described(self) -> dict[str, str]:
        """What it is: model, machine, operating system, kernel; empty where that can't be told."""
        release = dict(line.partition("=")[::2] for line in (self.text("/etc/os-release") or "").splitlines())
        return {
            "model": self.text("/proc/device-tree/model") or "",
            "machine": self.machine,
            "system": release.get("PRETTY_NAME", "").strip('"'),
            "kernel": self.text("/proc/sys/kernel/osrelease") or "",
        }
