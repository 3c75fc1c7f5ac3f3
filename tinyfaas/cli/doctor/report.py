"""What was found, for people a line at a time and for programs as one document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tinyfaas.cli.doctor.finding import Finding, State
from tinyfaas.cli.show import printable

_ORDER = (State.OK, State.SKIP, State.WARN, State.FAIL)
_COLOURS = {State.OK: "32", State.SKIP: "2", State.WARN: "33", State.FAIL: "31;1"}
_STATE_WIDTH = max(map(len, State))


def heading(described: Mapping[str, str]) -> str:
    """What is examined, in one line."""
    return printable(", ".join(text for text in described.values() if text))


def lines(name: str, finding: Finding, width: int, *, coloured: bool) -> str:
    """One finding: state, name (padded to `width`) and what was found; below it how to fix that."""
    state = finding.state.ljust(_STATE_WIDTH)
    if coloured:
        state = f"\x1b[{_COLOURS[finding.state]}m{state}\x1b[0m"
    before = " " * (_STATE_WIDTH + width + 4)
    text = f"{state}  {name.ljust(width)}  {printable(finding.found)}"
    return "\n".join((text, *(f"{before}fix: {printable(line)}" for line in finding.fix.splitlines())))


def summary(findings: Iterable[Finding]) -> str:
    """How many of each state."""
    counts = Counter(finding.state for finding in findings)
    return ", ".join(f"{counts[state]} {state}" for state in _ORDER)


def document(described: Mapping[str, str], found: Mapping[str, Finding]) -> dict[str, Any]:
    """All of it: `state` is that of the worst check, and `ok` where none is bad."""
    return {
        "state": worst(found.values()),
        "device": dict(described),
        "checks": [
            {"name": name, "state": finding.state, "found": finding.found, "fix": finding.fix}
            for name, finding in found.items()
        ],
    }


def worst(findings: Iterable[Finding]) -> State:
    """The worst state; what was skipped says nothing bad."""
    states = {finding.state for finding in findings}
    return next((state for state in (State.FAIL, State.WARN) if state in states), State.OK)
