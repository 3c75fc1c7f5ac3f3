"""Homes that were lived in: many functions and a long history, made of real ones by copying on disk."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.bench.functions import ECHO
from tests.bench.progress import say
from tests.bench.stage import Stage

_FULL = 0.95  # of the size at which the history is trimmed
_HISTORY_BYTES = 16 * 1024 * 1024  # [history] max_bytes, as it is by default


def name_of(number: int) -> str:
    """How the copies are called; the first one is the one that was uploaded."""
    return f"copy-{number:04}"


def populated_home(
    stage: Stage,
    functions: int,
    *,
    full_history: bool = False,
    code: str = ECHO,
    config: Mapping[str, Any] | None = None,
) -> Path:
    """A home with so many functions, each in a folder and environment of its own; no server runs in it."""
    home = stage.grounds.new_folder("home")
    with stage.server(home=home) as server:
        with stage.client() as client:
            client.deploy(name_of(0), code, config=config)
            client.invoke(name_of(0), 0)
        data_dir, functions_dir = server.data_dir, server.functions_dir
        server.stop()
    say(f"copying it to {functions} functions{' with a full history' if full_history else ''}")
    _copy_functions(data_dir / "functions.json", functions_dir, functions)
    if full_history:
        _fill(data_dir / "logs.json", functions)
    else:
        (data_dir / "logs.json").write_bytes(b"")
    return home


def _copy_functions(registry: Path, functions_dir: Path, count: int) -> None:
    document = json.loads(registry.read_text(encoding="utf-8"))
    for number in range(1, count):
        document[name_of(number)] = document[name_of(0)]
        subprocess.run(["cp", "-a", functions_dir / name_of(0), functions_dir / name_of(number)], check=True)
    registry.write_text(json.dumps(document, indent=1), encoding="utf-8")  # in place: it stays its owner's


def _fill(history: Path, functions: int) -> None:
    """Repeat the last real line under the functions' names until the file is nearly as long as it may be."""
    line = history.read_text(encoding="utf-8").splitlines()[-1] + "\n"
    with history.open("a", encoding="utf-8") as file:
        for number in range(int(_HISTORY_BYTES * _FULL / len(line))):
            file.write(line.replace(name_of(0), name_of(number % functions)))
