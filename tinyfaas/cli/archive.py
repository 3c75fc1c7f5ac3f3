"""The file that backup writes and restore reads: a compressed tar with a table of contents first.

    tinyfaas-backup.json                  format, what wrote it, and of each function version, digest and settings
    functions/<fn>/func.py, requirements.txt
    functions/<fn>/state/...              what it had stored: files and folders, nothing else

Such a file may come from anywhere. So nothing is taken out of it but plain files of expected names, into new folders,
within bounds; and the code must be that which the table of contents has the digest of.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import stat
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from tinyfaas.cli.failures import Failed
from tinyfaas.cli.store import Stored
from tinyfaas.model import FUNCTION_NAME
from tinyfaas.protocol import upload_digest

FORMAT = 1
CONTENTS = "tinyfaas-backup.json"
_LARGEST_CONTENTS = 16 * 1024 * 1024
_LARGEST_FILE = 16 * 1024 * 1024  # of code; the largest upload is smaller unless set otherwise
_MOST_FILES = 10_000  # of one function's state, as the server has it
_IN_MEMORY = 4 * 1024 * 1024
_CHUNK = 1024 * 1024
_BROKEN = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError)


class Writer:
    """Writes an archive; files are read whole before they go in, so that one that grows meanwhile spoils nothing."""

    def __init__(self, out: IO[bytes], contents: Mapping[str, Any]) -> None:
        self._tar = tarfile.open(mode="w:gz", fileobj=out, format=tarfile.PAX_FORMAT)  # noqa: SIM115  (closed below)
        self._add(CONTENTS, json.dumps({"format": FORMAT, **contents}, indent=1).encode())
        self.left_out = 0

    def add(self, stored: Stored) -> None:
        """Put a function's code in."""
        self._add(f"functions/{stored.function}/func.py", stored.code)
        self._add(f"functions/{stored.function}/requirements.txt", stored.requirements)

    def add_state(self, function: str, folder_fd: int) -> None:
        """Put in what it has stored. Links and the like are left out and counted: they may lead anywhere."""
        for below, folders, names, fd in os.fwalk(".", dir_fd=folder_fd, follow_symlinks=False):
            inside = PurePosixPath("functions", function, "state", below)
            for name in folders:
                if stat.S_ISDIR(os.lstat(name, dir_fd=fd).st_mode):
                    self._add_folder(str(inside / name))
                else:
                    self.left_out += 1
            for name in names:
                self._add_file(str(inside / name), name, fd)

    def close(self) -> None:
        """Write what is still to be written."""
        self._tar.close()

    def _add_file(self, inside: str, name: str, folder_fd: int) -> None:
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder_fd)
        except FileNotFoundError:
            return  # gone meanwhile
        except OSError:
            self.left_out += 1
            return
        with os.fdopen(fd, "rb") as file, tempfile.SpooledTemporaryFile(_IN_MEMORY) as copy:
            about = os.fstat(fd)
            if not stat.S_ISREG(about.st_mode):
                self.left_out += 1
                return
            while data := file.read(_CHUNK):
                copy.write(data)
            member = tarfile.TarInfo(inside)
            member.size, member.mtime, member.mode = copy.tell(), int(about.st_mtime), about.st_mode & 0o777
            copy.seek(0)
            self._tar.addfile(member, copy)

    def _add_folder(self, inside: str) -> None:
        member = tarfile.TarInfo(inside)
        member.type, member.mode, member.mtime = tarfile.DIRTYPE, 0o755, int(time.time())
        self._tar.addfile(member)

    def _add(self, inside: str, data: bytes) -> None:
        member = tarfile.TarInfo(inside)
        member.size, member.mtime, member.mode = len(data), int(time.time()), 0o640
        self._tar.addfile(member, io.BytesIO(data))


@dataclass(frozen=True)
class Reader:
    """An archive that is well-formed as far as its table of contents goes."""

    file: Path
    contents: Mapping[str, Any]

    @property
    def functions(self) -> list[str]:
        """What is in it."""
        return sorted(self.contents["functions"])

    def stored(self, wanted: list[str]) -> list[Stored]:
        """The code of these functions; raises `Failed` for what is missing, too large, or not what it should be."""
        found: dict[str, bytes] = {}
        names = {f"functions/{function}/{file}" for function in wanted for file in ("func.py", "requirements.txt")}
        with opened(self.file) as tar:
            for member in tar:
                if member.name in names and member.isreg():
                    found[member.name] = _content(tar, member, _LARGEST_FILE)
        return [self._checked(function, found) for function in wanted]

    def extract_state(self, source: IO[bytes], function: str, into: Path, most_bytes: int) -> int:
        """Write what a function had stored into a new folder; returns how many files. Raises `Failed`.

        `source` is the archive, opened.
        """
        into.mkdir(mode=0o700, parents=True)
        prefix, files, left = f"functions/{function}/state/", 0, most_bytes
        with opened(self.file, source) as tar:
            for member in tar:
                if not member.name.startswith(prefix):
                    continue
                target = into.joinpath(*_parts(member.name.removeprefix(prefix), self.file))
                if member.isdir():
                    target.mkdir(mode=0o700, parents=True, exist_ok=True)
                    continue
                files, left = files + 1, left - member.size
                if left < 0 or files > _MOST_FILES:
                    raise Failed(
                        f"{function}: had stored more than it may here: {most_bytes >> 20} MiB (max_disk_mb),"
                        f" {_MOST_FILES} files"
                    )
                _write(tar, self._plain(tar, member), target)
        return files

    def _plain(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> tarfile.TarInfo:
        if not member.isreg():
            raise Failed(
                f"{self.file}: {member.name!r} is neither a file nor a folder: tinyfaas backup puts none there"
            )
        if hasattr(tarfile, "data_filter"):  # Debian 12's Python has none; the checks here are stricter
            tarfile.data_filter(member, "/nonexistent")
        return member

    def _checked(self, function: str, found: Mapping[str, bytes]) -> Stored:
        entry = self.contents["functions"][function]
        files = [found.get(f"functions/{function}/{name}") for name in ("func.py", "requirements.txt")]
        code, requirements = files
        if code is None or requirements is None:
            raise Failed(f"{self.file}: has no code of {function}")
        if upload_digest(code, requirements, entry["config"]) != entry["digest"]:
            raise Failed(f"{self.file}: the code of {function} is not what was backed up: its digest differs")
        return Stored(function, entry["version"], entry["uploaded"], entry["digest"], code, requirements,
                      entry["config"])  # fmt: skip


def read(file: Path) -> Reader:
    """Open an archive; raises `Failed` for what is none, or is of another version."""
    with opened(file) as tar:
        first = tar.next()
        if first is None or first.name != CONTENTS or not first.isreg():
            raise Failed(f"{file}: was not written by tinyfaas backup")
        contents = json.loads(_content(tar, first, _LARGEST_CONTENTS))
    found = contents.get("format") if isinstance(contents, dict) else None
    if found != FORMAT:
        raise Failed(f"{file}: is of format {found!r}, this tinyfaas reads {FORMAT}; use the version that wrote it")
    if not _is_sound(contents.get("functions")):
        raise Failed(f"{file}: its table of contents is not as tinyfaas backup writes it")
    return Reader(file, contents)


@contextlib.contextmanager
def opened(file: Path, source: IO[bytes] | None = None) -> Iterator[tarfile.TarFile]:
    """An archive to be read from its beginning; whatever is wrong with it is `Failed`, in one line."""
    try:
        with tarfile.open(file, "r|gz", fileobj=source) as tar:
            yield tar
    except _BROKEN as error:
        raise Failed(f"{file}: is no whole archive: {error}") from None
    except (RecursionError, MemoryError):
        raise Failed(f"{file}: holds what no memory could: tinyfaas backup writes nothing like it") from None
    except OSError as error:
        raise Failed(f"{error.filename or file}: {error.strerror or error}") from None


def _is_sound(functions: object) -> bool:
    if not isinstance(functions, dict):
        return False
    kinds = {"version": int, "uploaded": str, "digest": str, "config": dict}
    return all(
        FUNCTION_NAME.fullmatch(name)
        and isinstance(entry, dict)
        and all(isinstance(entry.get(key), kind) for key, kind in kinds.items())
        for name, entry in functions.items()
    )


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, most_bytes: int) -> bytes:
    if member.size > most_bytes:
        raise Failed(f"{member.name!r} has {member.size} bytes, {most_bytes} are allowed")
    file = tar.extractfile(member)
    assert file is not None  # it is a plain file
    return file.read()


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    """Write one file into a folder of our own; never over something, never through a link."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    source = tar.extractfile(member)
    assert source is not None
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as out:
        while data := source.read(_CHUNK):
            out.write(data)
        os.fchmod(out.fileno(), 0o600 | member.mode & 0o700)
        os.utime(out.fileno(), (member.mtime, member.mtime))


def _parts(name: str, file: Path) -> tuple[str, ...]:
    parts = tuple(name.split("/"))
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise Failed(f"{file}: {name!r} is no name of a file: tinyfaas backup writes none such")
    return parts
