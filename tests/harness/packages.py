"""Packages made on the spot, so that no test of requirements needs the network."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent


def wheel(
    folder: Path, name: str, version: str = "1.0", source: str = "VALUE = 42", *, tag: str = "py3-none-any",
    files: Mapping[str, bytes] | None = None,
) -> Path:  # fmt: skip
    """A wheel with one module of the package's own name, and `files`; its path is a line for requirements.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-{tag}.whl"
    about = f"{name}-{version}.dist-info"
    members: dict[str, str | bytes] = {
        f"{name}.py": source,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{about}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n",
        **(files or {}),
    }
    members[f"{about}/RECORD"] = "".join(f"{member},,\n" for member in (*members, f"{about}/RECORD"))
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return path


def library(number: int, bits: int = 64, content: bytes = b"") -> bytes:
    """The beginning of a shared library for the processor of this number, little-endian, and some content."""
    ident = b"\x7fELF" + bytes((bits // 32, 1, 1)) + bytes(9)
    return ident + struct.pack("<HH", 3, number) + bytes(44) + content


def source(folder: Path, name: str, setup: str) -> Path:
    """A source distribution whose build runs this `setup.py`, and then makes a wheel with one module."""
    backend = dedent("""
        import runpy, zipfile
        def get_requires_for_build_wheel(settings=None):
            return []
        def build_wheel(folder, settings=None, metadata=None):
            runpy.run_path("setup.py", run_name="__main__")
            with zipfile.ZipFile(f"{folder}/NAME-1.0-py3-none-any.whl", "w") as wheel:
                wheel.writestr("NAME.py", "VALUE = 42")
                about = "NAME-1.0.dist-info"
                wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\\nName: NAME\\nVersion: 1.0\\n")
                wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
                wheel.writestr(f"{about}/RECORD", "")
            return "NAME-1.0-py3-none-any.whl"
    """).replace("NAME", name)
    members = {
        "setup.py": dedent(setup),
        "backend.py": backend,
        "pyproject.toml": f'[project]\nname = "{name}"\nversion = "1.0"\n'
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
    }
    path = folder / f"{name}-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for member, text in members.items():
            about = tarfile.TarInfo(f"{name}-1.0/{member}")
            about.size = len(text.encode())
            archive.addfile(about, io.BytesIO(text.encode()))
    return path


def that_does_not_compile(folder: Path) -> Path:
    """A project whose build fails, as one without a compiler at hand does."""
    return _project(folder, "raise SystemExit('error: command cc failed: No such file or directory')")


def that_takes_forever(folder: Path) -> Path:
    """A project whose build does not end."""
    return _project(folder, "import time; time.sleep(600)")


def _project(folder: Path, build: str) -> Path:
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "probe"\nversion = "1"\n',
        encoding="utf-8",
    )
    hooks = ("prepare_metadata_for_build_wheel", "build_wheel")
    text = "".join(f"def {hook}(*args, **kwargs):\n    {build}\n" for hook in hooks)
    (folder / "backend.py").write_text(text, encoding="utf-8")
    return folder
