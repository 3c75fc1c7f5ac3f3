"""The wall clock is read where a time is shown, where a signature's is compared with it, and for schedules."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "tinyfaas"

# When an invocation began, a message came, a version was uploaded, a line printed, a server started; names of files set
# aside.
SHOWN = {"daemon.py": 1, "deploy.py": 1, "eventbody.py": 1, "intake.py": 1, "registry.py": 2, "tap.py": 1}
# How old a signature is: its time is another machine's, and no other clock can be compared with that.
COMPARED = {"signing.py": 1}
# Times of cron are the wall clock's own; what its jumps do to them is judged by the other one (timetable.py).
SCHEDULED = {"schedules.py": 2}


def readings(file: Path) -> int:
    """How often a file reads the wall clock."""
    names = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today", "date.today"}
    calls = (node.func for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call))
    return sum(ast.unparse(called).removeprefix("datetime.datetime") in names for called in calls)


def test_no_decision_is_made_by_the_wall_clock() -> None:
    found = {str(file.relative_to(PACKAGE)): readings(file) for file in sorted(PACKAGE.rglob("*.py"))}
    assert {
        name: count for name, count in found.items() if count and not name.startswith("cli/")
    } == SHOWN | COMPARED | SCHEDULED
