"""What functions did, in words: the records of a history, in a table, in a line each, or whole."""

from __future__ import annotations

import json
from collections.abc import Mapping

from tinyfaas.cli.show import Answer, cell, duration, failure, printable, table
from tinyfaas.cli.terminal import DIM, GREEN, RED, coloured

_SHORT = 100


def records(answer: Answer) -> str:
    """A function's history: time, status, duration, id, and the error or a short result."""
    rows = [
        [
            cell(each.get("time_start")),
            cell(each.get("status")),
            took(each),
            cell(each.get("id")),
            outcome(each),
        ]
        for each in answer.get("logs", [])
    ]
    return table(rows) if rows else "no records"


def whole_records(answer: Answer) -> str:
    """Records with all that is known of them."""
    records = [table([(key, _whole(value)) for key, value in each.items()]) for each in answer.get("logs", [])]
    return "\n\n".join(records) or "no records"


def call(record: Answer) -> str:
    """A call and what came of it, in one line: `12:00:01.123  hello("Pi") -> "Hello, Pi!"  1.9 ms`."""
    cold = ", cold" if record.get("cold") else ""
    told = coloured(printable(outcome(record)), RED if record.get("status") == "error" else GREEN)
    name = str(record.get("function", ""))
    time = coloured(clock(record.get("time_start")), DIM)
    return f"{time}  {called(name, record)} -> {told}  {coloured(took(record) + cold, DIM)}"


def printed(event: Answer) -> str:
    """A line that a function has printed or logged: `12:00:01.122  | hello`, `12:00:01.122  | warning: hot  c=71`."""
    level = event.get("level", "")
    fields = "".join(f"  {name}={_short(_json(value))}" for name, value in event.get("fields", {}).items())
    told = printable(f"{level}: {event.get('line')}" if level else str(event.get("line"))) + printable(fields)
    colour = {"warning": RED, "error": RED}.get(level, "")
    return f"{coloured(clock(event.get('time')), DIM)}  | {coloured(told, colour) if colour else told}"


def clock(time: object) -> str:
    """Of an ISO time what a clock shows."""
    return str(time or "").partition("T")[2].rstrip("Z")


def called(function: str, record: Answer) -> str:
    """What was called: `hello("Pi", n=1)`."""
    args, kwargs = record.get("args", []), record.get("kwargs", {})
    shown = [_short(_json(each)) for each in args] if isinstance(args, list) else [_short(str(args))]
    if isinstance(kwargs, Mapping):
        shown += [f"{name}={_short(_json(value))}" for name, value in kwargs.items()]
    return printable(f"{function}({', '.join(shown)})")


def took(record: Answer) -> str:
    """How long a call took."""
    return duration(record["duration_ms"] / 1000) if "duration_ms" in record else "-"


def outcome(record: Answer) -> str:
    """What came of a call: the error, or a short result."""
    return _short(failure(record) if record.get("status") == "error" else _json(record.get("result")))


def _whole(value: object) -> str:
    return value.rstrip("\n").replace("\n", " | ") if isinstance(value, str) else _json(value)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _short(text: str) -> str:
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 1]}…"
