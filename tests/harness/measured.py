"""What the suite measures on its way; `scripts/measure-isolation` makes the tables of docs/isolation.md of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.harness.beside import Beside
from tests.harness.fence import Peak
from tests.harness.place import Place

_MIB = 1024 * 1024


class Measured:
    """Rows, each an object with its `kind`; appended to `file` as lines of JSON if there is one."""

    def __init__(self, file: Path | None) -> None:
        self._file = file

    def add(self, kind: str, **values: object) -> None:
        """One row. It is printed too, and shown with a failed test."""
        row = {"kind": kind, **values}
        print(json.dumps(row))
        if self._file is not None:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    def hostile(self, function: str, place: Place, answer: Mapping[str, Any], beside: Beside, peak: Peak,
                loaded_bytes: int, config: Mapping[str, Any]) -> None:  # fmt: skip
        """A hostile call: how it ended, by how much it passed its limits, and what the good function felt.

        `loaded_bytes` is what its worker used before the call.
        """
        home = place.server.functions_dir / function.replace("_", "-") / "state"
        said = subprocess.run(["du", "-s", "-B1", home], capture_output=True, check=False).stdout
        stored = int(said.split()[0]) if said else 0
        self.add(
            "hostile", function=function, boxed=place.boxed, code=answer.get("code", "harmless"),
            duration_ms=answer["duration_ms"], calls=len(beside.times_s), slowest_ms=beside.slowest_s * 1000,
            usual_ms=beside.usual_s * 1000, peak_mib=(loaded_bytes + peak.beyond.get("memory_bytes", 0)) / _MIB,
            peak_tasks=peak.beyond.get("tasks", 0), stored_mib=stored / _MIB, config=dict(config),
        )  # fmt: skip
