"""What a run found: the ratios that are judged, the tables, what is drawn, and what went wrong."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

NOTHING = "–"


@dataclass(frozen=True)
class Judgement:
    """One measure beside what it should reach."""

    measure: str
    floor: str
    ours: str
    ratio: str
    reach: str
    reached: bool


@dataclass(frozen=True)
class Table:
    """Cells as they are shown."""

    title: str
    about: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]


@dataclass
class Findings:
    """Grows while the scenarios run. `curves`: a plot's name → series → points."""

    conditions: dict[str, str] = field(default_factory=dict)
    judgements: list[Judgement] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    curves: dict[str, dict[str, list[tuple[float, float]]]] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)

    def judge(self, measure: str, floor: str, ours: str, value: float, sign: str, bound: float, unit: str) -> None:
        """Hold a value against its bound; `sign` is ≤ or ≥. A ratio has the unit ×."""
        reached = value <= bound if sign == "≤" else value >= bound
        ratio = f"{value:.2f} ×" if unit == "×" else NOTHING
        self.judgements.append(Judgement(measure, floor, ours, ratio, f"{sign} {bound:g} {unit}", reached))

    def table(self, title: str, about: str, head: Iterable[str], rows: Iterable[tuple[str, ...]]) -> None:
        """Add a table."""
        self.tables.append(Table(title, about, tuple(head), list(rows)))

    def curve(self, plot: str, series: str, points: Iterable[tuple[float, float]]) -> None:
        """Add a line to a plot."""
        self.curves.setdefault(plot, {})[series] = list(points)

    def to_json(self) -> str:
        """To be read again by `read_findings`."""
        return json.dumps(asdict(self), indent=1)


def read_findings(text: str) -> Findings:
    """What `to_json` wrote."""
    document: dict[str, Any] = json.loads(text)
    return Findings(
        conditions=document["conditions"],
        judgements=[Judgement(**each) for each in document["judgements"]],
        tables=[
            Table(each["title"], each["about"], tuple(each["head"]), [tuple(row) for row in each["rows"]])
            for each in document["tables"]
        ],
        curves=document["curves"],
        complaints=document["complaints"],
    )


def ms(seconds: float) -> str:
    """Milliseconds, with as many digits as mean something."""
    value = seconds * 1000
    return (
        NOTHING
        if value != value
        else f"{value:.3f}"
        if value < 1
        else f"{value:.2f}"
        if value < 100
        else f"{value:.0f}"
    )


def mb(size: float) -> str:
    """Megabytes (10⁶ bytes)."""
    return f"{size / 1e6:.1f} MB"


def times(ratio: float) -> str:
    """A ratio."""
    return NOTHING if ratio != ratio else f"{ratio:.3f} ×" if ratio < 0.1 else f"{ratio:.2f} ×"
