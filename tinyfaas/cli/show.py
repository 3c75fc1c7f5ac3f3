"""Answers in words, for people; programs take `--json`. Nothing here assumes a key that an answer may lack."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from tinyfaas.cli.terminal import shows_tables

Answer = Mapping[str, Any]


def functions(answer: Answer) -> str:
    """The functions there are, a line for each."""
    details = answer.get("details") or [{"function": name} for name in answer.get("functions", [])]
    if not details:
        return "no functions"
    keys = ("function", "version", "state", "calls", "errors", "warm", "uploaded", "reason")
    shown = [key for key in keys if any(key in each for each in details)]
    return table([[key.upper() for key in shown], *([cell(each.get(key)) for key in shown] for each in details)])


def info(answer: Answer) -> str:
    """One function, a line for each thing to know."""
    rows = [
        (key, cell(answer.get(key)))
        for key in ("function", "version", "state", "reason", "uploaded", "calls", "errors", "warm", "python")
        if answer.get(key) not in (None, "")
    ]
    rows.append(("requirements", ", ".join(answer.get("requirements", [])) or "none"))
    rows.append(("settings", ", ".join(_settings(answer.get("config", {}))) or "-"))
    rows += [(key, ", ".join(map(str, answer[key]))) for key in ("subscribes", "publishes") if answer.get(key)]
    rows += [
        ("schedule", f"{each.get('schedule')}, next at {each.get('next')}") for each in answer.get("schedules", [])
    ]
    for each in answer.get("versions", []):
        current = ", current" if each.get("version") == answer.get("version") else ""
        signed = f", signed by {each['signed_by']}" if each.get("signed_by") else ""
        told = f"{each.get('uploaded')}, digest {str(each.get('digest'))[:12]}{signed}{current}"
        rows.append((f"version {each.get('version')}", told))
    return table(rows)


def status(answer: Answer) -> str:
    """The server and the device, a line for each of their parts."""
    version, uptime = answer.get("version"), answer.get("uptime_s")
    server = [cell(answer.get("status"))]
    server += [f"version {version}"] if version else []
    server += [f"up {duration(uptime)}"] if isinstance(uptime, int | float) else []
    said = ("status", "node", "version", "uptime_s", "request_id")
    rows = [("node", cell(answer.get("node"))), ("server", ", ".join(server))]
    for key, value in answer.items():
        if key not in said:
            rows.append((key, ", ".join(_measures(value if isinstance(value, Mapping) else {"": value}))))
    return table(rows)


def deployed(answer: Answer) -> str:
    """What came of an upload that was waited for."""
    took = answer.get("seconds")
    told = f", built in {duration(took)}" if isinstance(took, int | float) else ""
    return printable(f"{answer.get('function')}: version {answer.get('version')} is ready{told}")


def unchanged(answer: Answer) -> str:
    """That there was nothing to upload."""
    return printable(f"{answer.get('function')}: version {answer.get('version')} is current, nothing has changed")


def taken(event: Answer) -> str:
    """That an upload is on its way."""
    name = event.get("function")
    return printable(f"{name}: taken by {event.get('node')}; `tinyfaas info {name}` shows what comes of it")


def deleted(answer: Answer) -> str:
    """That a function is gone."""
    return printable(f"{answer.get('function')}: deleted")


def rolled_back(answer: Answer) -> str:
    """Which version a function is back at."""
    return printable(f"{answer.get('function')}: version {answer.get('version')} is current")


def redriven(answer: Answer) -> str:
    """How many dead letters are run again."""
    count = answer.get("redriven", 0)
    return printable(f"{answer.get('function')}: {count} dead letter{'' if count == 1 else 's'} queued to run again")


def failure(answer: Answer) -> str:
    """The one line of an error answer: `code: error`."""
    return printable(f"{answer.get('code', 'error')}: {answer.get('error', 'the answer does not say what')}")


def hint(answer: Answer) -> str:
    """What to do about an error, where that is no matter of the function's code."""
    code, text = answer.get("code"), str(answer.get("error", ""))
    if code == "not_found":
        return "; tinyfaas list shows what there is" if text.startswith("no such function") else ""
    if code == "forbidden":
        return "; --sign KEY signs it" if "signed" in text else ""
    return {
        "timeout": "; timeout_s in its function.toml gives it longer",
        "out_of_memory": "; memory_mb in its function.toml gives it more",
        "expired": "; --timeout gives it longer",
        "unavailable": "; tinyfaas logs FN --failed tells why" if "failing" in text else "",
    }.get(str(code), "")


def behind(answer: Answer) -> str:
    """What stands behind an error answer, in lines: the function's traceback, or an installer's output."""
    text = answer.get("traceback") or answer.get("detail") or ""
    lines = [printable(str(line)) for line in (text if isinstance(text, list) else str(text).splitlines())]
    return "" if lines == [printable(str(answer.get("error")))] else "\n".join(lines)


def settings(effective: Iterable[tuple[str, object, str]]) -> str:
    """Settings as key, value (as TOML and JSON write it), and where it comes from."""
    return table([(key, json.dumps(value, ensure_ascii=False), origin) for key, value, origin in effective])


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows, with their columns aligned on a terminal; elsewhere tabs are between them, for `cut` and `awk`."""
    clean = [[printable(text) for text in row] for row in rows]
    if not shows_tables():
        return "\n".join("\t".join(row) for row in clean)
    widths = [max(map(len, column)) for column in zip(*clean, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in clean
    )


def printable(text: str) -> str:
    """On one line, and without what a terminal would obey: function and installer choose what they print."""
    return "".join(each if each.isprintable() else " " if each.isspace() else "�" for each in text)


def cell(value: object) -> str:
    """A value as a word; a dash where there is none."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return str(value)


def duration(value_s: float) -> str:
    """Seconds in the two units that tell most: `12 min 5 s`, `3 d 4 h`; a short time in one: `1.5 s`, `40 ms`."""
    if value_s < 1:
        return f"{round(value_s * 1000, 1):g} ms"
    if value_s < 60:
        return f"{round(value_s, 1):g} s"
    minutes, rest_s = divmod(int(value_s), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest_s} s"


def size(value: float) -> str:
    """Bytes in the unit that suits: `512 B`, `25.7 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{round(value, 1):g} {unit}"
        value /= 1024
    return f"{round(value, 1):g} TiB"


def _settings(values: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """Settings as function.toml would say them."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{before}{key}.")
        else:
            yield f"{before}{key} = {json.dumps(value, ensure_ascii=False)}"


def _measures(values: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """Keys and values in words; what can't be told (null) is left out."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _measures(value, f"{before}{_words(key)} ")
        elif value is not None:
            label, _, unit = key.rpartition("_")
            known = unit in _UNITS and isinstance(value, int | float) and not isinstance(value, bool)
            told = _measure(unit, value) if known else cell(value)
            yield f"{before}{_words(label if known else key)} {told}".strip()


def _measure(unit: str, value: float) -> str:
    return _UNITS[unit](value)


_UNITS: dict[str, Callable[[float], str]] = {
    "bytes": size,
    "s": duration,
    "ms": lambda value: duration(value / 1000),
    "percent": lambda value: f"{round(value, 1):g} %",
    "c": lambda value: f"{round(value, 1):g} °C",
}


def _words(key: str) -> str:
    return key.replace("_", " ")
