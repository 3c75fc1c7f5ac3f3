"""Packages made on the spot, so that no test of requirements needs the network."""

from __future__ import annotations

import zipfile
from pathlib import Path


def wheel(folder: Path, name: str, version: str = "1.0", source: str = "VALUE = 42") -> Path:
    """A wheel with one module of the package's own name; its path is a line for requirements.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    about = f"{name}-{version}.dist-info"
    members = {
        f"{name}.py": source,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    members[f"{about}/RECORD"] = "".join(f"{member},,\n" for member in (*members, f"{about}/RECORD"))
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in members.items():
            archive.writestr(member, text)
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
