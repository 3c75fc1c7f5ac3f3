"""Shows how far an upload is: one line with a bar that changes on a terminal, a line for each event elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TextIO

from tinyfaas.cli.show import duration, printable
from tinyfaas.cli.terminal import CLEAR_LINE

_PHASES = ("queued", "environment", "install", "import", "ready")
_LEAST_WIDTH = 60  # below it the words need all the room there is


class Progress:
    """Writes to `stream`; `width` is the number of columns that a changing line may take, 0 for plain lines."""

    def __init__(self, stream: TextIO, width: int) -> None:
        self._stream = stream
        self._width = width

    def show(self, event: Mapping[str, Any]) -> None:
        """Show an event of an upload."""
        text = line_of(event)
        if self._width:
            bar = f"{bar_of(event)} " if self._width >= _LEAST_WIDTH else ""
            self._stream.write(f"{CLEAR_LINE}{bar}{text[: self._width - len(bar)]}")
        else:
            self._stream.write(f"{text}\n")
        self._stream.flush()

    def end(self) -> None:
        """Make room for what is printed next."""
        if self._width:
            self._stream.write(CLEAR_LINE)
            self._stream.flush()


def bar_of(event: Mapping[str, Any]) -> str:
    """How many phases are behind it: `[====>     ]`."""
    phase = event.get("phase")
    done = _PHASES.index(phase) if phase in _PHASES else 0
    length = 2 * (len(_PHASES) - 1)
    head = "" if phase == "ready" else ">"
    return f"[{('=' * 2 * done + head)[:length].ljust(length)}]"


def line_of(event: Mapping[str, Any]) -> str:
    """An event in words: `hello: install, 12.1 s: Collecting numpy`."""
    elapsed = event.get("elapsed_s")
    told = f", {duration(elapsed)}" if isinstance(elapsed, int | float) else ""
    line = f": {event['line']}" if event.get("line") else ""
    return printable(f"{event.get('function', '')}: {event.get('phase', '')}{told}{line}")
