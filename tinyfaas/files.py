"""Changes on disk that survive a pulled plug: write beside, fsync, rename; and the lock on a data directory."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from tinyfaas.errors import AlreadyRunning


def write_atomically(path: Path, data: bytes) -> None:
    """Replace `path` by `data` so that a crash at any instant leaves the old content or the new, whole."""
    fd, beside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(beside).chmod(0o640)
        Path(beside).replace(path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make renames within a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def lock(path: Path) -> int:
    """Hold `path` for as long as this process lives; no child inherits it. Raises `AlreadyRunning`.

    Returns the descriptor, which is close-on-exec: a worker that outlives a killed server can't block its restart.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(fd, 20, 0).decode("ascii", "replace").strip()
        os.close(fd)
        raise AlreadyRunning(f"{path.parent} is in use by another server (pid {holder or 'unknown'})") from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def size_of(folder: Path, *, most_files: int) -> tuple[int, int]:
    """The bytes that the files below a folder take up, and how many they are; counts no further than `most_files`."""
    used = files = 0
    waiting = [str(folder)]
    while waiting and files < most_files:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    files += 1
                    used += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError:
            continue
    return used, files


def remove(folder: Path) -> None:
    """Remove a folder whose owner may have made parts of it unwritable. Links are not followed."""
    if folder.is_dir() and not folder.is_symlink():
        folder.chmod(0o700)
        for parent, names, _ in os.walk(folder):
            for inner in (Path(parent, name) for name in names):
                if not inner.is_symlink():
                    inner.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
