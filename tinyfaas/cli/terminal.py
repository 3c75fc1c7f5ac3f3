"""What a terminal can show and other streams can't: colours, columns, a line or a screen that changes."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TextIO

BOLD, DIM, RED, GREEN, YELLOW = "1", "2", "31;1", "32", "33"
CLEAR_LINE = "\r\x1b[K"


def takes_colour(stream: TextIO) -> bool:
    """Whether colours are seen there, and wanted."""
    return stream.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")


def coloured(text: str, colour: str, stream: TextIO | None = None) -> str:
    """A text in a colour, where `stream` (stdout) shows colours."""
    return f"\x1b[{colour}m{text}\x1b[0m" if takes_colour(stream or sys.stdout) else text


def width_of(stream: TextIO) -> int:
    """Columns of a terminal that can change a line, less the last one, where some would break it; else 0."""
    if not stream.isatty() or os.environ.get("TERM") == "dumb":
        return 0
    return max(1, shutil.get_terminal_size().columns - 1)


def shows_tables(stream: TextIO | None = None) -> bool:
    """Whether columns are aligned there for eyes, or stand between tabs for programs."""
    return (stream or sys.stdout).isatty()
