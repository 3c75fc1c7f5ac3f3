"""A disk so small that a test can fill it. Only for root, and only where mounting is allowed."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

from tests.harness.account import Account

_BLOCK_BYTES = 4096


class SmallDisk:
    """A file system in memory at `folder`, which belongs to `account`."""

    def __init__(self, folder: Path, account: Account, size_bytes: int) -> None:
        self.folder = folder
        self._filler = folder / "filler"
        options = f"size={size_bytes},uid={account.uid},gid={account.gid},mode=755"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True, capture_output=True)

    def fill(self) -> None:
        """Leave no room at all."""
        with contextlib.suppress(OSError), self._filler.open("ab", buffering=0) as file:
            while file.write(bytes(_BLOCK_BYTES)):
                pass

    def free_bytes(self) -> int:
        """How much room there is."""
        status = os.statvfs(self.folder)
        return status.f_bavail * status.f_frsize

    def make_room(self) -> None:
        """Take away what filled it."""
        self._filler.unlink()

    def unmount(self) -> None:
        """Take the disk away, with what is on it."""
        subprocess.run(["umount", "--lazy", self.folder], check=True, capture_output=True)


def small_disk(folder: Path, account: Account, size_bytes: int) -> SmallDisk | str:
    """The disk, or why there can be none here."""
    if os.geteuid() != 0:
        return "only root can mount a small disk"
    try:
        return SmallDisk(folder, account, size_bytes)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"a small disk can't be mounted here: {error}"
