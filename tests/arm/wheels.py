"""Packages for the emulated Pi, fetched and unpacked here: it would take twenty times as long to do so itself."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.arm.machine import SUITE
from tests.hosts.image import SUITES
from tests.hosts.wheels import wheels

_PURE = ("cronsim", "paho_mqtt", "pyseccomp", "sdnotify", "structlog", "tinyfaas")
_PLATFORMS = ("manylinux2014_aarch64", "manylinux_2_17_aarch64", "manylinux_2_28_aarch64")


def arm_wheels(folder: Path) -> Path:
    """A new folder with tinyfaas and all it needs on a 64-bit Pi: what `tinyfaas_wheels` names."""
    folder.mkdir()
    for name in _PURE:
        (wheel,) = wheels().glob(f"{name}-*-none-any.whl")
        shutil.copy2(wheel, folder)
    (psutil,) = wheels().glob("psutil-*.whl")
    _pip("download", "--no-deps", *_FOR_IT, "--dest", folder, f"psutil=={psutil.name.split('-')[1]}")
    return folder


def unpack(wheels: Path, target: Path, *packages: str) -> None:
    """Packages and what they need, laid out in `target` as Python imports them; from `wheels`, or fetched."""
    _pip("install", *_FOR_IT, "--find-links", wheels, "--target", target, *packages)


_FOR_IT = (
    "--only-binary=:all:", "--implementation=cp", f"--python-version={SUITES[SUITE]}",
    *(f"--platform={platform}" for platform in _PLATFORMS),
)  # fmt: skip


def _pip(*words: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *map(str, words)], check=True)
