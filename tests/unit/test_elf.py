"""A library for another machine is found, and what nobody would miss is let pass."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.harness.packages import library
from tinyfaas import elf

OTHER = 183 if elf.own().number != 183 else 62


def put(folder: Path, **files: bytes) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def own() -> bytes:
    return library(elf.own().number, elf.own().bits)


def test_the_interpreters_own_libraries_are_for_its_machine() -> None:
    assert elf.own() == elf.machine_of(Path(sys.executable).resolve())
    assert elf.foreign(Path(sysconfig.get_path("platstdlib"))) is None
    assert elf.foreign(Path(sysconfig.get_path("purelib"))) is None


@pytest.mark.parametrize(
    ("number", "bits", "name"),
    [(183, 64, "aarch64"), (62, 64, "x86_64"), (62, 32, "x86_64, 32 bits"), (3, 32, "i686"), (40, 32, "arm"),
     (999, 64, "processor 999, 64 bits")],
)  # fmt: skip
def test_a_machine_is_named_as_wheels_name_it(tmp_path: Path, number: int, bits: int, name: str) -> None:
    put(tmp_path, x=library(number, bits))
    assert str(elf.machine_of(tmp_path / "x")) == name


@pytest.mark.parametrize(
    "name", ["fast.cpython-311-aarch64-linux-gnu.so", "package/fast.abi3.so", "libfast.so", "package/libfast.so.1.2"]
)
def test_a_library_for_another_machine_is_found(tmp_path: Path, name: str) -> None:
    assert elf.foreign(put(tmp_path, **{name: library(OTHER)})) == tmp_path / name


def test_a_module_without_a_tag_is_known_by_what_it_exports(tmp_path: Path) -> None:
    module = library(OTHER, content=b"PyInit_fast\0")
    put(tmp_path, **{"package/fast.so": module, "package/native.so": own()})
    assert elf.foreign(tmp_path) == tmp_path / "package/fast.so"


@pytest.mark.parametrize(
    "beside",
    [
        {"package/fast.cpython-311-other.so": library(OTHER), "package/fast.cpython-311-ours.so": own()},
        {"package/libfast.so": library(OTHER), "package/libours.so": own()},
        {"package/libfast_arm64.so": library(OTHER)},
        {"package/linux-x86_64/libfast.so": library(OTHER)},
        {"package/fast.so": b"no library at all", "package/empty.so": b"", "fast.py": library(OTHER)},
    ],
)
def test_what_nobody_would_miss_is_let_pass(tmp_path: Path, beside: dict[str, bytes]) -> None:
    assert elf.foreign(put(tmp_path, **beside)) is None


def test_no_name_is_taken_for_a_machines_by_chance(tmp_path: Path) -> None:
    assert elf.foreign(put(tmp_path, **{"charm/libalarm.so": library(OTHER)})) is not None


def test_pipes_links_and_folders_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.so")
    (tmp_path / "link.so").symlink_to("/dev/zero")
    (tmp_path / "folder.so").mkdir()
    (tmp_path / "loop.so").symlink_to("loop.so")
    assert elf.foreign(tmp_path) is None
