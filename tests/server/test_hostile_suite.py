"""Every function of tests/hostile, run for real inside the sandbox and without one, while a good one is called.

Each folder holds the function as it would be deployed, and what must become of its call: `inside` and `outside` are the
codes its answer may have (`harmless`: it succeeded, and got nothing of what it tried), `outside_cannot` says why that
can't hold without a sandbox.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.harness.bench import Grounds
from tests.harness.beside import Beside
from tests.harness.census import below, share_bytes
from tests.harness.fence import Peak
from tests.harness.measured import Measured
from tests.harness.place import Place
from tests.harness.waiting import eventually

FOLDER = Path(__file__).resolve().parents[1] / "hostile"
MIB = 1024 * 1024
LONGEST_S = 150.0


@dataclass(frozen=True)
class Hostile:
    """One folder."""

    code: str
    requirements: str
    config: dict[str, Any]
    expected: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Hostile:
        texts = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir() if path.is_file()}
        return cls(
            texts["func.py"], texts.get("requirements.txt", ""), tomllib.loads(texts.get("function.toml", "")),
            tomllib.loads(texts["expected.toml"]),
        )  # fmt: skip


HOSTILE = {folder.name: Hostile.read(folder) for folder in sorted(FOLDER.iterdir()) if (folder / "func.py").exists()}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_function_has_its_answer_and_nobody_else_notices(
    place: Place, grounds: Grounds, measured: Measured, kind: str
) -> None:
    hostile = HOSTILE[kind]
    allowed = hostile.expected.get("inside" if place.boxed else "outside")
    if allowed is None:
        pytest.skip(hostile.expected["outside_cannot"])
    name, server, since = kind.replace("_", "-"), place.server, place.server.log.mark()
    place.client.call(place.good, "well")  # its one worker is there from now on
    family, belongings = below(server.pid), place.belongings()
    place.client.deploy(name, hostile.code, hostile.requirements, config=hostile.config)
    loaded_bytes = share_bytes(below(server.pid) - family)
    with Beside(place.beside, place.good) as beside, Peak(grounds.fence) as peak:
        answer = place.client.request(f"faas/invoke/{name}", {"args": [place.facts()]}, timeout_s=LONGEST_S)
    measured.hostile(kind, place, answer, beside, peak, loaded_bytes, hostile.config)
    assert place.client.request(f"faas/admin/delete/{name}")["status"] == "deleted"
    assert outcome(answer) in allowed, answer
    assert server.process is not None
    assert server.process.poll() is None, "the server has ended"
    eventually(lambda: below(server.pid) == family, f"nothing but {family} to be left", timeout_s=10.0)
    assert place.belongings() == belongings
    assert not (server.functions_dir / name).exists()
    complaints = [each for each in server.log.records(since) if each.get("level") in ("error", "critical")]
    assert [each for each in complaints if each.get("event") != "function_output"] == []
    assert server.log.records(since, event="disconnected") == []


def outcome(answer: dict[str, Any]) -> str:
    """Its code; `harmless` for a success without gain."""
    if answer["status"] == "error":
        return str(answer["code"])
    return "harmless" if answer["result"] == [] else f"got {answer['result']}"


@pytest.mark.parametrize("kind", HOSTILE)
def test_each_hostile_function_says_what_must_become_of_it_in_both_places(kind: str) -> None:
    expected = HOSTILE[kind].expected
    assert isinstance(expected["inside"], list)
    assert ("outside" in expected) != ("outside_cannot" in expected)
