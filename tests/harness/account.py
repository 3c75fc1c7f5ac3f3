"""Who the server under test runs as: never root, for a function that escapes its limits must not own the machine."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Account:
    """A user and its group."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()

    @property
    def is_us(self) -> bool:
        """Whether it is the one who runs the tests."""
        return self.uid == os.geteuid()

    def popen(self) -> dict[str, Any]:
        """The arguments that make `subprocess` start a program as this account."""
        return {} if self.is_us else {"user": self.uid, "group": self.gid, "extra_groups": list(self.groups)}

    def own(self, path: Path) -> Path:
        """Give a file or folder to this account."""
        if not self.is_us:
            os.chown(path, self.uid, self.gid)
        return path

    def reaches(self, path: Path) -> bool:
        """Whether it may go through every folder above `path`, and read that."""
        path = path.absolute()
        return all(self._may(0o1, folder) for folder in path.parents) and self._may(0o5 if path.is_dir() else 0o4, path)

    def _may(self, wanted: int, path: Path) -> bool:
        status = path.stat()
        shift = 6 if status.st_uid == self.uid else 3 if status.st_gid == self.gid else 0
        return (status.st_mode >> shift) & wanted == wanted


def unprivileged() -> Account:
    """Oneself; for root it is `nobody`."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    nobody = pwd.getpwnam("nobody")
    return Account(nobody.pw_uid, nobody.pw_gid)
