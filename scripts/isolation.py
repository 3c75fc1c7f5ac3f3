"""Measures what docs/isolation.md says in numbers, and writes the tables there anew.

    scripts/isolation.py            runs the hostile functions and cold starts of the suite: two minutes
    scripts/isolation.py FILE       takes what an earlier run has written, see TINYFAAS_TEST_MEASURED

The tables stand between the comments `<!-- measured -->` and `<!-- end -->`. They are of one machine on one day, so
nothing checks them; whoever changes what they are about runs this.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/isolation.md"
TESTS = ("tests/server/test_hostile_suite.py", "tests/server/test_cold_start.py")
_BOMBS = ("forks_without_end", "starts_threads_without_end")  # of whom only the number of tasks tells anything
_NONE = "-"
_MOST_TASKS = 64  # the default
PLACES = {True: "in the sandbox", False: "without it"}

_PART = re.compile(r"(?<=<!-- measured -->\n).*?(?=<!-- end -->)", re.DOTALL)
_MIB = 1024 * 1024
Row = dict[str, Any]


def main() -> int:
    """Measure, unless that was done, and write the page; returns an exit status."""
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else measure()
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    text = "\n\n".join(("", conditions(), server(rows), cold_starts(rows), overshoots(rows), company(rows), ""))
    PAGE.write_text(_PART.sub(lambda _: text.removeprefix("\n"), PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


def measure() -> Path:
    """Run the tests that measure; returns the file with what they found."""
    file = Path(tempfile.mkdtemp()) / "measured.jsonl"
    environ = {**os.environ, "TINYFAAS_TEST_MEASURED": str(file)}
    subprocess.run(  # noqa: S603  (our own tests)
        [sys.executable, "-m", "pytest", "-q", *TESTS], cwd=ROOT, env=environ, check=True
    )
    return file


def conditions() -> str:
    """Where and when this is from."""
    cpu = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return (
        f"Measured on {today} by `scripts/isolation.py`: {cpu[1] if cpu else platform.machine()}, {os.cpu_count()} "
        f"processors with a load of {os.getloadavg()[1]:.1f} (all else on the machine included), Linux "
        f"{platform.release().partition('-')[0]}, Python {platform.python_version()}, memory held by the "
        "watch. A Pi is slower; what carries over are the ratios."
    )


def server(rows: list[Row]) -> str:
    """The server's own memory."""
    lines = [
        (PLACES[row["boxed"]], f"{row['before_bytes'] / _MIB:.1f} MiB", f"{row['after_bytes'] / _MIB:.1f} MiB")
        for row in of(rows, "server")
    ]
    return table(("the server's memory", "before all hostile functions", "after"), lines)


def cold_starts(rows: list[Row]) -> str:
    """What a new worker costs."""
    lines = []
    for row in of(rows, "cold"):
        times = (f"{row['cold_ms']:.0f} ms", f"{row['cold_ms'] / row['bare_ms']:.2f}", f"{row['warm_ms']:.1f} ms")
        lines.append((PLACES[row["boxed"]], *times))
    return table(
        ("call that starts a worker", "quickest of 40", "as a ratio to `python3 -I -c pass`", "warm call"), lines
    )


def overshoots(rows: list[Row]) -> str:
    """By how much limits were passed before they took hold."""
    lines: list[tuple[str, ...]] = []
    for limit, value, unit, reached in (
        ("memory_mb", "peak_mib", "MiB", ("out_of_memory",)),
        ("max_disk_mb", "stored_mib", "MiB", ("crashed", "function_error")),
        ("timeout_s", "duration_ms", "s", ("timeout",)),
        ("max_processes", "peak_tasks", "", ("crashed",)),
    ):
        for name, found in by_function(rows):
            config = {"max_processes": _MOST_TASKS} if name in _BOMBS else next(iter(found.values()))["config"]
            cells = [_most(found.get(boxed), value, unit, reached) for boxed in PLACES]
            if limit in config and cells != [_NONE, _NONE]:
                lines.append((f"`{limit}`", named(name), f"{config[limit]} {unit}".strip(), *cells))
    head = ("limit", "by a function that", "set", *(f"most, {place}" for place in PLACES.values()))
    return (
        "How far a function came before its limit took hold. Memory is told from outside, for all that its worker "
        f"started, once each millisecond.\n\n{table(head, lines)}"
    )


def _most(row: Row | None, value: str, unit: str, reached: Iterable[str]) -> str:
    """How far it came, if it was this limit that ended it."""
    if row is None or row["code"] not in reached or row[value] < 1:
        return _NONE
    return f"{row[value] / 1000:.2f} s" if unit == "s" else f"{row[value]:.0f} {unit}".strip()


def company(rows: list[Row]) -> str:
    """How each hostile function ended, and what a good one felt meanwhile."""
    quiet = {row["boxed"]: row["quiet_ms"] for row in of(rows, "server")}
    lines = []
    for name, found in by_function(rows):
        cells: list[str] = []
        for boxed in PLACES:
            if (row := found.get(boxed)) is None:
                cells += ("can't hold", _NONE)
            else:
                ratio = row["slowest_ms"] / quiet[boxed]
                cells += (f"`{row['code']}`", f"{row['slowest_ms']:.0f} ms ({ratio:.1f})")
        lines.append((named(name), *cells))
    quiets = " and ".join(f"{quiet[boxed]:.0f} ms {place}" for boxed, place in PLACES.items() if boxed in quiet)
    head = ("a function that", *(cell for place in PLACES.values() for cell in (f"ends {place}", "slowest good call")))
    return (
        "The good function is called every 5 ms beside each of these. In brackets its slowest call as a ratio to the "
        f"slowest of 400 quiet ones ({quiets}).\n\n{table(head, lines)}"
    )


def of(rows: list[Row], kind: str) -> list[Row]:
    """The rows of one kind; of two for the same, the later."""
    return list({(row.get("boxed"), row.get("function")): row for row in rows if row["kind"] == kind}.values())


def by_function(rows: list[Row]) -> Iterator[tuple[str, dict[bool, Row]]]:
    """The hostile functions by name, with their rows by place."""
    found = of(rows, "hostile")
    for name in sorted({row["function"] for row in found}):
        yield name, {row["boxed"]: row for row in found if row["function"] == name}


def named(function: str) -> str:
    """A folder's name as words."""
    return function.replace("_", " ")


def table(head: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    """A table as the pages have them."""
    head = tuple(head)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ("---",) * len(head), *lines))


if __name__ == "__main__":
    sys.exit(main())
