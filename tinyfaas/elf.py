"""For which machine a program or a library was built, by its ELF header; and which library of an environment is not for
ours. Nothing is loaded or run, and nothing but regular files is read: a build may leave anything behind.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import platform
import re
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_HEADER_BYTES = 20
_NAMES = {3: "i686", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64"}
_LIBRARY = re.compile(r"\.so(\.[0-9.]+)?$")
_NAMED_AS_MODULE = re.compile(r"\.(cpython-|abi3\.)")
# A package that carries libraries for several machines tells them apart by name, and picks one itself.
_SAYS_WHICH = re.compile(
    r"(?<![a-z])(amd64|x64|x86|i[3-6]86|aarch64|arm(64|hf|el|v[5-8]\w*)?|riscv\w*|ppc\w*|s390x?|mips\w*)(?![a-z])", re.I
)
_MOST_SEARCHED_BYTES = 8 * 1024 * 1024
_MOST_STRANGERS = 1_000


@dataclass(frozen=True, slots=True)
class Machine:
    """What must be equal for one process to hold both: word size in bits, byte order, the processor's number."""

    bits: int
    order: str
    number: int

    def __str__(self) -> str:
        """Its name as wheels give it, `aarch64`."""
        name = _NAMES.get(self.number, f"processor {self.number}, {self.bits} bits")
        return f"x86_64, {self.bits} bits" if (name, self.bits) == ("x86_64", 32) else name


@cache
def own() -> Machine:
    """The machine of the interpreter that runs this: a 32-bit one on a 64-bit kernel says 32 bits."""
    machine = machine_of(Path(sys.executable).resolve())
    assert machine is not None, f"{sys.executable} has no ELF header"
    return machine


def own_name() -> str:
    """Our machine as wheels name it, `armv7l`: all 32-bit ARM is one machine to ELF, and several to wheels."""
    if own().number != 40:
        return str(own())
    return platform.machine() if platform.machine().startswith("armv") else "armv7l"


def machine_of(path: Path) -> Machine | None:
    """The machine that a file is for; None if it is no regular file, can't be read, or is no ELF file."""
    with _opened(path) as fd:
        return None if fd is None else _machine(fd)


def foreign(folder: Path) -> Path | None:
    """A library below `folder` that this interpreter would fail to load, or None.

    Passed over are those that nobody would miss: a module with a sibling for this machine, and other libraries beside
    some that are for it, or whose path tells that the package knows of several machines.
    """
    strangers: list[tuple[Path, str]] = []
    native: set[str] = set()
    for path in _libraries(folder):
        machine = machine_of(path)
        module = str(path.with_name(path.name.partition(".")[0]))
        if machine == own():
            native |= {module, path.relative_to(folder).parts[0]}
        elif machine is not None:
            strangers.append((path, module))
            if len(strangers) > _MOST_STRANGERS:
                return path
    for path, module in strangers:
        inside = path.relative_to(folder)
        if _is_module(path):
            if module not in native:
                return path
        elif inside.parts[0] not in native and not _SAYS_WHICH.search(str(inside)):
            return path
    return None


def _libraries(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders.sort()
        yield from (Path(parent, name) for name in sorted(files) if _LIBRARY.search(name))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    """A descriptor of a regular file, or None; a link is not followed, and a pipe not waited for."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        yield None
        return
    try:
        yield fd if stat.S_ISREG(os.fstat(fd).st_mode) else None
    finally:
        os.close(fd)


def _machine(fd: int) -> Machine | None:
    head = os.pread(fd, _HEADER_BYTES, 0)
    if len(head) < _HEADER_BYTES or head[:4] != b"\x7fELF":
        return None
    if head[5] == 2:
        return Machine(32 * head[4], "big", int.from_bytes(head[18:20], "big"))
    return Machine(32 * head[4], "little", int.from_bytes(head[18:20], "little"))


def _is_module(path: Path) -> bool:
    """Whether `import` would take this ELF file for a module: it is named as one, or has what one begins with."""
    if _NAMED_AS_MODULE.search(path.name):
        return True
    begins = f"PyInit_{path.name.partition('.')[0]}".encode()
    with _opened(path) as fd:
        if fd is None:
            return False
        length = min(os.fstat(fd).st_size, _MOST_SEARCHED_BYTES)
        with mmap.mmap(fd, length, prot=mmap.PROT_READ) as content:
            return content.find(begins) >= 0
