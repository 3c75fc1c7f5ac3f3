"""The emulated Pi that the tests in this folder share. Where none can be made, they are skipped, and say why."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.arm.machine import Machine

_PROGRAMS = {
    "cpio": "cpio", "mke2fs": "e2fsprogs", "mmdebstrap": "mmdebstrap", "modprobe": "kmod", "qemu-img": "qemu-utils",
    "qemu-system-aarch64": "qemu-system-arm", "ssh": "openssh-client",
}  # fmt: skip
_PATIENCE_S = 10_800  # the first run makes images, and others may be using the machine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test the time that an emulated machine takes, or the reason why there is none."""
    missing = sorted({package for program, package in _PROGRAMS.items() if shutil.which(program) is None})
    for item in items:
        if item.path.is_relative_to(__file__.rpartition("/")[0]):
            item.add_marker(pytest.mark.timeout(_PATIENCE_S))
            if missing or os.geteuid() != 0:
                why = f"install {', '.join(missing)}" if missing else "only root makes the images"
                item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    """A freshly flashed Pi, with nothing of ours on it."""
    machine = Machine()
    try:
        yield machine.boot()
    finally:
        machine.power_off()
