"""What a run found, for the terminal and as a page."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Sequence

from tests.bench.findings import Findings, Table

PLOTS = {
    "throughput": ("performance-throughput.png", "Throughput of the echo over the number of requests in flight"),
    "latency-1": ("performance-latency-1.png", "Latency of the echo, 1 in flight"),
    "latency-64": ("performance-latency-64.png", "Latency of the echo, 64 in flight"),
}

_JUDGED = ("measure", "floor", "ours", "ratio", "to reach", "reached?")
_INTRODUCTION = """\
# Performance

Written whole by `scripts/bench`, which measured all of it in one run on one machine. Absolute numbers belong to that
machine; the ratios are what counts. Where two are compared they were measured in turns, several times, and the value
is the median of the rounds.

"Bare paho" is the floor: a responder of a few lines in paho's network thread, with `TCP_NODELAY`, that publishes what
it gets. The load generator speaks MQTT by itself, from a process of its own, matches every answer to its request, and
shows [its own ceiling](#the-load-generators-own-ceiling). The server has its stock settings: history, log and sandbox
are on.
"""


def for_terminal(findings: Findings) -> str:
    """The judged ratios, aligned, and what went wrong."""
    table = [_JUDGED, *_judged(findings)]
    widths = [max(_width(row[column]) for row in table) for column in range(len(_JUDGED))]
    lines = ["  ".join(cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()
             for row in table]  # fmt: skip
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*lines, *(f"wrong: {complaint}" for complaint in findings.complaints)])


def for_page(findings: Findings, *, drawn: Sequence[str]) -> str:
    """docs/performance.md; `drawn` are the plots that there are."""
    reached = sum(judgement.reached for judgement in findings.judgements)
    parts = [
        _INTRODUCTION,
        "## Conditions\n",
        _markdown(("", ""), list(findings.conditions.items())),
        f"## What is to be reached\n\n{reached} of {len(findings.judgements)} are.\n",
        _markdown(_JUDGED, _judged(findings)),
    ]
    if findings.complaints:
        wrong = "\n".join(f"- {complaint}" for complaint in findings.complaints)
        parts.append(f"## What went wrong\n\nLost, doubled and failed answers, and runs cut short.\n\n{wrong}\n")
    parts += [f"![{caption}]({file})\n" for name, (file, caption) in PLOTS.items() if name in drawn]
    parts += [_section(table) for table in findings.tables]
    return "\n".join(parts)


def _judged(findings: Findings) -> list[tuple[str, ...]]:
    return [
        (each.measure, each.floor, each.ours, each.ratio, each.reach, "yes" if each.reached else "no")
        for each in findings.judgements
    ]


def _section(table: Table) -> str:
    about = "\n".join(textwrap.wrap(table.about, 120))
    return f"## {table.title}\n\n{about}{chr(10) * 2 if about else ''}{_markdown(table.head, table.rows)}"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [
        "|" + "|".join(f" {cell.replace('|', '/')} " if cell else " " for cell in row) + "|" for row in (head, *rows)
    ]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:], ""])


def _width(text: str) -> int:
    """Characters that take up room on a terminal."""
    return sum(not unicodedata.combining(character) for character in text)
