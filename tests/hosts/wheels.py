"""tinyfaas, all it needs and ansible-core as wheels, made once from the checkout: hosts install without a way out."""

from __future__ import annotations

import fcntl
import hashlib
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.harness.installation import CHECKOUT
from tests.hosts.image import CACHE, SUITES

_SOURCES = ("LICENSE", "README.md", "pyproject.toml", "tinyfaas")
_BALLAST = shutil.ignore_patterns("__pycache__", "*.egg-info")
_KEPT = 8
_PLATFORMS = ("manylinux2014", "manylinux_2_17", "manylinux_2_28")


def wheels() -> Path:
    """A folder of wheels, for every suite's Python; what `scripts/install --wheels` asks for."""
    files = sorted(
        file for name in _SOURCES for file in (CHECKOUT / name, *(CHECKOUT / name).rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    )  # fmt: skip
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for file in files:
        digest.update(f"{file.relative_to(CHECKOUT)}\0".encode() + file.read_bytes())
    shelf = CACHE / "wheels"
    shelf.mkdir(parents=True, exist_ok=True)
    folder = shelf / digest.hexdigest()[:12]
    with (shelf / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            _forget_oldest(shelf)
            _build(folder)
    return folder


def _build(folder: Path) -> None:
    """From a copy: building leaves its traces in the sources."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as at:
        copy, made = Path(at, "sources"), Path(at, "made")
        copy.mkdir()
        for name in _SOURCES:
            if (CHECKOUT / name).is_dir():
                shutil.copytree(CHECKOUT / name, copy / name, ignore=_BALLAST)
            else:
                shutil.copy2(CHECKOUT / name, copy)
        _pip("wheel", "--use-pep517", "--wheel-dir", made, copy)
        for python in SUITES.values():
            platforms = [f"--platform={kind}_{platform.machine()}" for kind in _PLATFORMS]
            fetch = ("--only-binary=:all:", f"--python-version={python}", "--implementation=cp", *platforms)
            _pip("download", *fetch, "--dest", made, "ansible-core")
        made.rename(folder)


def _pip(*words: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *map(str, words)], check=True)


def _forget_oldest(shelf: Path) -> None:
    folders = sorted((each for each in shelf.iterdir() if each.is_dir()), key=lambda each: each.stat().st_mtime)
    for folder in folders[:-_KEPT]:
        shutil.rmtree(folder, ignore_errors=True)
