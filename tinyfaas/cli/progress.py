"""Shows how far an upload is: one line that changes on a terminal, a line for each event elsewhere."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import Any, TextIO

from tinyfaas.cli.show import duration, printable

_CLEAR = "\r\x1b[K"


class Progress:
    """Writes to `stream`; `width` is the number of columns that a changing line may take, 0 for plain lines."""

    def __init__(self, stream: TextIO, width: int) -> None:
        self._stream = stream
        self._width = width

    def show(self, event: Mapping[str, Any]) -> None:
        """Show an event of an upload."""
        text = line_of(event)
        if self._width:
            self._stream.write(f"{_CLEAR}{text[: self._width]}")
        else:
            self._stream.write(f"{text}\n")
        self._stream.flush()

    def end(self) -> None:
        """Make room for what is printed next."""
        if self._width:
            self._stream.write(_CLEAR)
            self._stream.flush()


def width_of(stream: TextIO) -> int:
    """Columns of a terminal that can change a line, less the last one, where some would break it; else 0."""
    if not stream.isatty() or os.environ.get("TERM") == "dumb":
        return 0
    return max(1, shutil.get_terminal_size().columns - 1)


def line_of(event: Mapping[str, Any]) -> str:
    """An event in words: `hello: install, 12.1 s: Collecting numpy`."""
    elapsed = event.get("elapsed_s")
    told = f", {duration(elapsed)}" if isinstance(elapsed, int | float) else ""
    line = f": {event['line']}" if event.get("line") else ""
    return printable(f"{event.get('function', '')}: {event.get('phase', '')}{told}{line}")
