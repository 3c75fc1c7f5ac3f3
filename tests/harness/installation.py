"""Where the server under test runs from: the checkout, or a copy where its account can't read that.

Root's checkouts and virtual environments may lie below a folder that only root enters. Then interpreter, packages and
tinyfaas itself are copied once to a folder that everyone reads.
"""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from tests.harness.account import Account

CHECKOUT = Path(__file__).resolve().parents[2]
_TOOLS = shutil.ignore_patterns("mypy*", "*mypyc*", "ruff*", "hypothesis*", "pygments*", "__editable__*")
_BALLAST = ("test", "config-*", "idlelib", "tkinter", "turtledemo", "site-packages", "__pycache__", "*.a")


@dataclass(frozen=True)
class Installation:
    """A Python that has tinyfaas."""

    python: Path
    copied: bool = False

    @property
    def serve(self) -> list[str]:
        """The command that runs the server."""
        return [str(self.python), "-m", "tinyfaas", "serve"]


def installation_for(account: Account, folder: Path) -> Installation:
    """The installation that runs these tests, or its copy in `folder` if the account has no way to it."""
    packages = Path(sysconfig.get_path("purelib"))
    needed = (CHECKOUT / "tinyfaas", packages, Path(sys.executable), _interpreter())
    if account.is_us or all(account.reaches(path) for path in needed):
        return Installation(Path(sys.executable))
    venv = folder / "venv"
    python = _interpreter() if account.reaches(_interpreter()) else _copied_interpreter(folder / "python")
    subprocess.run([python, "-I", "-m", "venv", "--without-pip", venv], check=True)
    copy = Path(venv, *packages.parts[-3:])
    shutil.copytree(packages, copy, ignore=lambda at, names: _TOOLS(at, names) if at == str(packages) else (),
                    dirs_exist_ok=True)  # fmt: skip
    shutil.copytree(CHECKOUT / "tinyfaas", copy / "tinyfaas", dirs_exist_ok=True)
    compileall.compile_dir(copy / "tinyfaas", quiet=1)
    _make_readable(folder)
    made = Installation(venv / "bin" / "python", copied=True)
    subprocess.run([made.python, "-c", "import ctypes, ssl, tinyfaas.daemon"], check=True, cwd="/", **account.popen())
    return made


def _interpreter() -> Path:
    """The real file of the interpreter, whatever links lead to it."""
    return Path(os.path.realpath(sys.executable))


def _copied_interpreter(prefix: Path) -> Path:
    """The interpreter with its standard library; where its library is found is told anew in its header."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    base = Path(sys.base_prefix)
    shutil.copytree(base / "lib" / version, prefix / "lib" / version, ignore=shutil.ignore_patterns(*_BALLAST))
    for library in (base / "lib").glob("libpython*.so*"):
        shutil.copy2(library, prefix / "lib" / library.name)
    python = prefix / "bin" / version
    python.parent.mkdir()
    here, origin = os.fsencode(base / "lib"), b"$ORIGIN/../lib"
    found = _interpreter().read_bytes()
    if len(here) >= len(origin):
        found = found.replace(here + b"\0", origin.ljust(len(here), b"\0") + b"\0")
    python.write_bytes(found)
    python.chmod(0o755)
    return python


def _make_readable(folder: Path) -> None:
    """Whatever the umask was."""
    subprocess.run(["chmod", "--recursive", "a+rX", folder], check=True)
