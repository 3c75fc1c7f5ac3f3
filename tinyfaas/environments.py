"""Virtual environments, one per function and set of requirements: built once, kept while nothing changes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tinyfaas import elf, installer, log
from tinyfaas.build import Build
from tinyfaas.config import Uploads
from tinyfaas.errors import BuildFailed, Unavailable
from tinyfaas.files import remove, write_atomically
from tinyfaas.model import Limits
from tinyfaas.sandbox import Sandbox

logger = log.get("environments")

Report = Callable[[str, str], None]  # phase, line
_COMPLETE = ".complete"
_SCRATCH = ".build"
_OPEN_FILES = 1_024
# Asked of the environment itself, closed in: what a build has left there is nothing that the server should read.
_WHAT_IS_INSTALLED = (
    "from importlib.metadata import distributions\n"
    "for each in sorted({f'{found.name}=={found.version}' for found in distributions()}): print(each)"
)


def digest_of(requirements: bytes) -> str:
    """The name of the environment for these requirements: comments and blank lines make no difference."""
    lines = (re.sub(rb"(^|\s)#.*", b"", line).strip() for line in requirements.splitlines())
    wanted = b"\n".join(line for line in lines if line)
    interpreter = f"{platform.python_version()} {platform.machine()}".encode()
    return hashlib.blake2b(interpreter + b"\0" + wanted, digest_size=6).hexdigest()


class Environments:
    """Builds environments; `building` are those under way, for the watch to look at."""

    def __init__(self, settings: Uploads, sandbox: Sandbox) -> None:
        self._settings = settings
        self._sandbox = sandbox
        self._changing = threading.Lock()
        self._under_way: list[Build] = []

    def reload(self, settings: Uploads) -> None:
        """Go by other settings from the next build on."""
        self._settings = settings

    def building(self) -> list[Build]:
        """The builds that run now."""
        with self._changing:
            return list(self._under_way)

    def prepare(self, home: Path, requirements: Path, report: Report) -> str:
        """Build the environment below `home/environments` unless it is there; returns its name.

        Raises `BuildFailed`, and `Unavailable` where there must be a sandbox and is none.
        """
        home, requirements = home.absolute(), requirements.absolute()  # the same path inside the sandbox and outside
        text = requirements.read_bytes()
        name = digest_of(text)
        environment = home / "environments" / name
        report("environment", "")
        if (environment / _COMPLETE).exists():
            return name
        if self._sandbox.forbids_running:
            raise Unavailable(f"nothing is built without a sandbox here: {self._sandbox.missing}")
        house = self._settings.wheel_house
        if house and not os.path.isdir(house):  # noqa: PTH112  (never raises)
            raise BuildFailed(f"uploads.wheel_house: there is no folder {house}", detail="")
        if self._settings.only_binary and (line := installer.builds_code(text)):
            raise BuildFailed(f"only wheels may be installed here, and this could be something else: {line}", detail="")
        remove(environment)
        (environment / _SCRATCH).mkdir(parents=True)  # where something is left, this raises: nothing is built on that
        try:
            with self._build(environment, requirements) as build:
                self._fill(build, environment, requirements if digest_of(text) != digest_of(b"") else None, report)
        except BaseException:
            remove(environment)
            raise
        return name

    def _fill(self, build: Build, environment: Path, requirements: Path | None, report: Report) -> None:
        python, lines = environment / "bin" / "python", list[str]()
        if build.run([sys.executable, "-I", "-m", "venv", "--without-pip", str(environment)], _ignore) != 0:
            raise BuildFailed("the environment could not be made: see detail", detail=build.detail)
        if requirements is not None:
            report("install", "")
            with _configured(environment):
                command = installer.command(python, requirements, self._settings, compile_all=build.boxed)
                code = build.run(command, lambda line: report("install", line))
            if code != 0:
                raise BuildFailed(installer.refusal(build.lines, self._settings), detail=build.detail)
            if (library := elf.foreign(_packages(environment))) is not None:
                raise BuildFailed(
                    f"{library.relative_to(_packages(environment))} was built for {elf.machine_of(library)},"
                    f" this device's Python is for {elf.own_name()}",
                    detail="",
                )
            if build.run([str(python), "-I", "-c", _WHAT_IS_INSTALLED], lines.append) != 0:
                raise BuildFailed("the environment can't be used: see detail", detail=build.detail)
        remove(environment / _SCRATCH)
        remove(environment / _COMPLETE)  # a build may have left one
        complete = {"python": platform.python_version(), "requirements": sorted(lines)}
        write_atomically(environment / _COMPLETE, json.dumps(complete).encode())

    @contextlib.contextmanager
    def _build(self, environment: Path, requirements: Path) -> Iterator[Build]:
        settings = self._settings
        limits = Limits(
            timeout_s=settings.build_timeout_s, memory_mb=settings.build_memory_mb, max_open_files=_OPEN_FILES,
            max_processes=settings.build_max_processes, max_disk_mb=settings.build_disk_mb,
        )  # fmt: skip
        variables = installer.variables(os.environ, environment / _SCRATCH)
        reads = [*installer.reads(os.environ, settings), requirements]
        build = Build(environment, limits, self._sandbox, variables, reads)
        with self._changing:
            self._under_way.append(build)
        try:
            yield build
        finally:
            with self._changing:
                self._under_way.remove(build)


def installed(environment: Path) -> list[str]:
    """What is installed in an environment, as `name==version`, sorted."""
    return [str(each) for each in _told(environment).get("requirements", [])]


def python_version(environment: Path) -> str:
    """The Python version of an environment, `3.11.2`; empty if it can't be told."""
    return str(_told(environment).get("python", ""))


def remove_unused(home: Path, used: Iterable[str]) -> None:
    """Remove the environments below `home` that no kept version uses."""
    keep = set(used)
    for folder in (home / "environments").glob("*"):
        if folder.name not in keep:
            remove(folder)


def _told(environment: Path) -> dict[str, Any]:
    """What was noted when an environment was complete."""
    try:
        noted = json.loads((environment / _COMPLETE).read_bytes())
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}


def _packages(environment: Path) -> Path:
    return environment / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"


@contextlib.contextmanager
def _configured(environment: Path) -> Iterator[None]:
    """Let pip find there what the server's own environment has for configuration, as long as it runs."""
    ours, theirs = Path(sys.prefix, "pip.conf"), environment / "pip.conf"
    if sys.prefix == sys.base_prefix or not ours.is_file():
        yield
        return
    shutil.copyfile(ours, theirs)
    try:
        yield
    finally:
        remove(theirs)
        theirs.unlink(missing_ok=True)


def _ignore(_line: str) -> None:
    pass
