"""The rules of the house, each on a small house that keeps or breaks it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scripts.house import inspect


class Checkout:
    """A checkout in the making; its code map is drawn along, and every rule kept until a test breaks one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "docs").mkdir()
        self.draw("| floor | file | it alone … |\n|---|---|---|\n")

    def draw(self, row: str) -> None:
        """Add to the page with the code map."""
        with (self.root / "docs/architecture.md").open("a", encoding="utf-8") as page:
            page.write(row)

    def build(self, file: str, code: str = "", floor: int | None = None) -> None:
        """Write a file below tinyfaas/, and draw it on a floor of the map."""
        path = self.root / "tinyfaas" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code, encoding="utf-8")
        if floor is not None:
            self.draw(f"| {floor} | `{file}` | … |\n")

    @property
    def findings(self) -> list[str]:
        """What the checker says."""
        return [str(finding) for finding in inspect(self.root)]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_a_room_may_import_from_a_lower_floor(checkout: Checkout) -> None:
    checkout.build("errors.py", floor=0)
    checkout.build("pool.py", "from tinyfaas.errors import Crashed", floor=3)
    assert checkout.findings == []


def test_a_room_may_import_from_its_left_on_its_own_floor(checkout: Checkout) -> None:
    checkout.build("errors.py", floor=0)
    checkout.build("protocol.py", "from tinyfaas.errors import BadRequest", floor=0)
    assert checkout.findings == []


@pytest.mark.parametrize(
    "code",
    [
        "import tinyfaas.gateway",
        "from tinyfaas import gateway",
        "from tinyfaas.gateway import Gateway",
        "from . import gateway",
        "from .gateway import Gateway",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from tinyfaas.gateway import Gateway",
    ],
)
def test_a_room_may_not_import_from_a_higher_floor_however_it_is_written(checkout: Checkout, code: str) -> None:
    checkout.build("gateway/__init__.py")
    checkout.build("pool.py", code, floor=3)
    line = code.count("\n") + 1
    assert checkout.findings == [f"tinyfaas/pool.py:{line}: imports gateway, whose place in FLOORS comes later"]


def test_everyone_may_import_the_version(checkout: Checkout) -> None:
    checkout.build("__init__.py", "__version__ = '1'")
    checkout.build("errors.py", "from tinyfaas import __version__", floor=0)
    assert checkout.findings == []


def test_the_package_itself_imports_no_room(checkout: Checkout) -> None:
    checkout.build("__init__.py", "from tinyfaas.errors import Crashed")
    checkout.build("errors.py", floor=0)
    assert checkout.findings == ["tinyfaas/__init__.py:1: imports errors, whose place in FLOORS comes later"]


def test_a_room_that_is_not_in_the_table_is_found(checkout: Checkout) -> None:
    checkout.build("attic.py")
    assert checkout.findings == ["tinyfaas/attic.py:1: attic has no place in FLOORS (scripts/house.py)"]


def test_modules_of_one_package_may_import_each_other(checkout: Checkout) -> None:
    checkout.build("gateway/session.py", floor=5)
    checkout.build("gateway/replies.py", "from tinyfaas.gateway.session import Session", floor=5)
    assert checkout.findings == []


def test_modules_of_one_package_may_not_import_each_other_in_a_circle(checkout: Checkout) -> None:
    checkout.build("gateway/session.py", "from tinyfaas.gateway import replies", floor=5)
    checkout.build("gateway/replies.py", "from .session import Session", floor=5)
    (finding,) = checkout.findings
    assert "circle" in finding
    assert "tinyfaas.gateway.session → tinyfaas.gateway.replies" in finding


@pytest.mark.parametrize(
    ("file", "floor", "code", "owners"),
    [
        ("pool.py", 3, "import paho.mqtt.client", "cli and gateway"),
        ("pool.py", 3, "from psutil import Process", "vitals"),
        ("daemon.py", 6, "import sdnotify", "systemd"),
        ("daemon.py", 6, "import structlog", "log"),
        ("daemon.py", 6, "import logging.handlers", "log"),
    ],
)
def test_a_foreign_package_is_known_to_its_owner_alone(
    checkout: Checkout, file: str, floor: int, code: str, owners: str
) -> None:
    checkout.build(file, code, floor)
    (finding,) = checkout.findings
    assert finding.endswith(f"as only {owners} may")


def test_the_owner_of_a_foreign_package_may_import_it(checkout: Checkout) -> None:
    checkout.build("vitals.py", "import psutil", floor=2)
    checkout.build("gateway/session.py", "import paho.mqtt.client", floor=5)
    assert checkout.findings == []


def test_imports_inside_functions_are_found(checkout: Checkout) -> None:
    code = "class Pool:\n    def lease(self):\n        import json\n"
    checkout.build("pool.py", code, floor=3)
    assert checkout.findings == ["tinyfaas/pool.py:3: imports inside a function"]


@pytest.mark.parametrize("file", ["cli/invoke.py", "__main__.py"])
def test_a_command_may_import_when_it_runs(checkout: Checkout, file: str) -> None:
    checkout.build(file, "def main():\n    import json\n", floor=7)
    assert checkout.findings == []


def test_the_child_may_import_the_standard_library_and_its_neighbours(checkout: Checkout) -> None:
    checkout.build("child/faaswire.py", "import struct", floor=0)
    checkout.build("child/__main__.py", "import json, faaswire", floor=0)
    assert checkout.findings == []


@pytest.mark.parametrize("code", ["import numpy", "from tinyfaas.errors import Crashed", "from . import faaswire"])
def test_the_child_may_import_nothing_else(checkout: Checkout, code: str) -> None:
    checkout.build("errors.py", floor=0)
    checkout.build("child/faaswire.py", floor=0)
    checkout.build("child/__main__.py", code, floor=0)
    (finding,) = checkout.findings
    assert finding.endswith("a child has only its folder and Python")


@pytest.mark.parametrize("file", ["queue.py", "logging/__init__.py", "child/json.py"])
def test_no_file_has_the_name_of_one_of_pythons_own(checkout: Checkout, file: str) -> None:
    checkout.build(file)
    assert any("is the name of a module of the standard library" in finding for finding in checkout.findings)


def test_a_file_inside_a_package_may_have_such_a_name(checkout: Checkout) -> None:
    checkout.build("cli/profile.py", floor=7)
    assert checkout.findings == []


def test_names_that_say_nothing_are_found(checkout: Checkout) -> None:
    checkout.build("cli/utils.py", "class WorkerManager: ...\n\nclass _Helper: ...\n", floor=7)
    assert [finding.split(" says")[0] for finding in checkout.findings] == [
        "tinyfaas/cli/utils.py:1: WorkerManager",
        "tinyfaas/cli/utils.py:1: utils",
        "tinyfaas/cli/utils.py:3: _Helper",
    ]


@pytest.mark.parametrize(
    "code",
    [
        "try: work()\nexcept: raise\n",
        "try: work()\nexcept Exception: pass\n",
        "try: work()\nexcept (OSError, BaseException) as error: pass\n",
        "import contextlib\nwith contextlib.suppress(Exception): work()\n",
    ],
)
def test_swallowing_every_exception_is_found(checkout: Checkout, code: str) -> None:
    checkout.build("pool.py", code, floor=3)
    (finding,) = checkout.findings
    assert finding.startswith("tinyfaas/pool.py:2: ")


@pytest.mark.parametrize(
    "code",
    [
        "try: work()\nexcept OSError: pass\n",
        "try: work()\nexcept Exception: log.exception('failed')\n",
        "try: work()\nexcept Exception: pass  # the function's own loss\n",
        "try: work()\nexcept Exception:\n    pass  # the function's own loss\n",
    ],
)
def test_catching_with_a_purpose_or_a_reason_is_fine(checkout: Checkout, code: str) -> None:
    checkout.build("pool.py", code, floor=3)
    assert checkout.findings == []


def test_the_code_map_shows_every_file(checkout: Checkout) -> None:
    checkout.build("pool.py")
    assert checkout.findings == ["docs/architecture.md:1: shows no pool.py (floor 3)"]


def test_the_code_map_shows_no_file_that_has_gone(checkout: Checkout) -> None:
    checkout.draw("| 3 | `pool.py` | … |\n")
    assert checkout.findings == ["docs/architecture.md:3: shows pool.py, which is not there"]


def test_the_code_map_shows_files_on_their_floor(checkout: Checkout) -> None:
    checkout.build("pool.py", floor=4)
    assert checkout.findings == ["docs/architecture.md:3: shows pool.py on floor 4; it stands on 3"]


def test_the_code_map_shows_the_files_of_a_package_in_one_row(checkout: Checkout) -> None:
    checkout.build("cli/deploy.py")
    checkout.build("cli/invoke.py")
    checkout.build("__main__.py")
    checkout.draw("| 7 | `__main__.py`, `cli/` (`deploy.py`, `invoke.py`) | commands |\n")
    assert checkout.findings == []


def test_a_missing_code_map_is_said_plainly(checkout: Checkout) -> None:
    (checkout.root / "docs/architecture.md").unlink()
    (finding,) = checkout.findings
    assert finding.startswith("docs/architecture.md:1: is missing")


def test_the_command_prints_findings_and_fails(checkout: Checkout) -> None:
    checkout.build("pool.py", "import paho", floor=3)
    script = checkout.root / "scripts/house.py"
    script.parent.mkdir()
    script.write_bytes((Path(__file__).parents[2] / "scripts/house.py").read_bytes())
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stdout == "tinyfaas/pool.py:1: imports paho, as only cli and gateway may\n"
