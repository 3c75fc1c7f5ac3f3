"""Configures structlog: coloured on a terminal, JSON lines elsewhere. Everyone else only asks for a logger."""

from __future__ import annotations

import logging
import sys
from typing import Any, cast

import structlog

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(level: str, style: str) -> None:
    """Send records of `level` and above to stderr; `style` is auto, terminal or json."""
    on_terminal = style == "terminal" or (style == "auto" and sys.stderr.isatty())
    renderer = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if on_terminal
        else structlog.processors.JSONRenderer()
    )
    shown = [] if on_terminal else [structlog.processors.format_exc_info]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=not on_terminal),
            *shown,
            cast("Any", renderer),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )


def get(room: str) -> Any:
    """The logger of one room of the house."""
    return structlog.get_logger(room=room)
