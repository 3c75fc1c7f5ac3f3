"""The only room that configures logging: which records are shown, and as what.

Under systemd they go to its journal with fields, on a terminal they are sentences in colour, elsewhere JSON lines.
Everyone else asks for a logger and says events, see `tinyfaas.events`.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import structlog
from structlog.typing import EventDict, Processor

from tinyfaas import journal
from tinyfaas.config import Log as Settings
from tinyfaas.config import levels_of
from tinyfaas.events import ROOMS, event_of, sentence
from tinyfaas.journal import Journal

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_DEBUG, _INFO, _WARNING, _ERROR = _LEVELS.values()


@dataclass(frozen=True, slots=True)
class _Least:
    """The least severity that is shown: in general, of a room, and about a function, which goes before its room."""

    general: int = _INFO
    rooms: dict[str, int] = field(default_factory=dict)
    functions: dict[str, int] = field(default_factory=dict)


class _About(threading.local):
    """What all records of this thread tell besides their own fields."""

    fields: dict[str, Any] = {}  # noqa: RUF012  (replaced, never changed)


class _Outlet:
    """Where rendered records go, and how they are rendered; `configure` sets it for all loggers, old and new."""

    def __init__(self) -> None:
        self.processors: list[Processor] = []
        self.write: Callable[[Any], None] = print
        self.journal: Journal | None = None
        self.least = _Least()


_about = _About()
_outlet = _Outlet()


class Logger(structlog.BoundLoggerBase):
    """Says events of one room. Below the level that is set a call costs next to nothing."""

    def debug(self, event: str, **fields: Any) -> None:
        """Say what only a developer wants to know."""
        self._say(_DEBUG, "debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Say what went as it should."""
        self._say(_INFO, "info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Say what went wrong, and that the server goes on."""
        self._say(_WARNING, "warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Say what somebody should look at."""
        self._say(_ERROR, "error", event, _with_place(fields))

    def failure(self, event: str, **fields: Any) -> None:
        """Say an error that is none of the server's: where in the server it is said tells nobody anything."""
        self._say(_ERROR, "error", event, fields)

    def exception(self, event: str, **fields: Any) -> None:
        """Say what somebody should look at, with the exception that is being handled."""
        self._say(_ERROR, "error", event, _with_place({**fields, "exc_info": True}))

    def _say(self, severity: int, level: str, event: str, fields: dict[str, Any]) -> None:
        least = _outlet.least
        if least.functions and (own := least.functions.get(fields.get("function", ""))) is not None:
            shown = severity >= own
        else:
            shown = severity >= least.rooms.get(self._context["room"], least.general)
        if shown:
            args, _ = self._process_event(level, event, {**_about.fields, **fields})
            _outlet.write(*args)


def _with_place(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields, with file and line of who calls the logger."""
    frame = sys._getframe(2)
    file = frame.f_code.co_filename.rpartition("/tinyfaas/")[2]
    return {**fields, "code_file": f"tinyfaas/{file}", "code_line": frame.f_lineno}


def get(room: str) -> Logger:
    """The logger of one room of the house."""
    assert room in ROOMS, f"{room} is not among the rooms of tinyfaas/events.py"
    return Logger(_outlet, _outlet.processors, {"room": room})


def about(**fields: Any) -> None:
    """Let all records of this thread tell these fields from now on; none to end it."""
    _about.fields = fields


def told(field_name: str) -> str:
    """What the records of this thread tell in such a field; empty if nothing."""
    return str(_about.fields.get(field_name, ""))


def set_levels(settings: Settings) -> None:
    """Which records are shown, from now on."""
    levels = {name: _LEVELS[level] for name, level in levels_of(settings).items()}
    functions = {name.partition(".")[2]: level for name, level in levels.items() if "." in name}
    rooms = {name: level for name, level in levels.items() if "." not in name}
    _outlet.least = _Least(_LEVELS[settings.level], rooms, functions)


def configure(settings: Settings) -> None:
    """Choose where records go and as what; called once, before there are threads."""
    set_levels(settings)
    style = settings.format
    if style == "auto":
        journalled = journal.under_systemd(2, os.environ)
        style = "terminal" if sys.stderr.isatty() else "journal" if journalled else "json"
    _outlet.journal = Journal() if style == "journal" else None
    _outlet.write = _outlet.journal.write if _outlet.journal else structlog.WriteLogger(sys.stderr).msg
    _outlet.processors[:] = {"terminal": _terminal, "journal": _journal, "json": _json}[style]()


def divert(take: Callable[[dict[str, Any]], None]) -> None:
    """Hand the fields of each record to a function instead of writing it: for who runs functions without a server."""
    _outlet.journal = None
    _outlet.write = take
    _outlet.processors[:] = [
        structlog.processors.format_exc_info,
        lambda _logger, level, fields: (({**fields, "level": level},), {}),
    ]


def flush() -> None:
    """Give the journal what it did not take before, and say what was lost; called now and then."""
    if _outlet.journal is not None and (dropped := _outlet.journal.flush()):
        get("log").warning("log_records_dropped", count=dropped)


def _journal() -> list[Processor]:
    def render(_logger: Any, level: str, fields: EventDict) -> bytes:
        return journal.render(level, cast("dict[str, Any]", fields))

    return [structlog.processors.format_exc_info, render]


def _json() -> list[Processor]:
    encode = json.JSONEncoder(default=str, separators=(", ", ": ")).encode

    def render(_logger: Any, _level: str, fields: EventDict) -> str:
        return encode(fields)

    return [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        render,
    ]


def _terminal() -> list[Processor]:
    return [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
        _as_sentence,
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0),
    ]


def _as_sentence(_logger: Any, _level: str, fields: EventDict) -> EventDict:
    """The event as its sentence, and of the fields those that it does not tell."""
    event = event_of(fields)
    told_already = event.names | {"event", "code_file", "code_line"}
    rest = {key: value for key, value in fields.items() if key not in told_already}
    return {"event": sentence(event, fields).strip(), **rest}


_outlet.processors[:] = _json()
_outlet.write = lambda line: print(line, file=sys.stderr)  # until it is configured
