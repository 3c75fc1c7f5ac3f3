"""What the words of a command line mean: each turns a text into a value, or says in one line why it can't."""

from __future__ import annotations

import argparse
import json
import math
from typing import Any, NoReturn

_LONGEST_S = 604_800.0


def json_or_text(text: str) -> Any:
    """A function's argument: what the text says in JSON, or the text itself where it is no JSON."""
    try:
        return strict_json(text)
    except (ValueError, RecursionError):
        return text


def strict_json(text: str | bytes) -> Any:
    """What a text says in JSON, without what only Python understands; raises `ValueError` or `RecursionError`."""
    return json.loads(text, parse_constant=_refuse, parse_float=_finite)


def named_argument(text: str) -> tuple[str, Any]:
    """A keyword argument, `NAME=VALUE`."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, json_or_text(value)


def function_name(text: str) -> str:
    """The name of a function."""
    from tinyfaas.errors import BadRequest
    from tinyfaas.protocol import check_function

    try:
        return check_function(text)
    except BadRequest as error:
        raise argparse.ArgumentTypeError(error.message) from None


def seconds(text: str) -> float:
    """A time to wait, more than 0 s and at most a week."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= _LONGEST_S:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to {_LONGEST_S:g}")
    return value


def port(text: str) -> int:
    """A TCP port."""
    if not text.isdecimal() or not 1 <= int(text) <= 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 1 to 65535")
    return int(text)


def records(text: str) -> int:
    """How many records of a history."""
    if not text.isdecimal() or not 1 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 10000")
    return int(text)


def version(text: str) -> int:
    """The number of a function's version."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not the number of a version")
    return int(text)


def moment(text: str) -> str:
    """A time to look back to: an ISO time, or how long ago, as `90s`, `15m`, `2h`, `3d`."""
    from datetime import UTC, datetime, timedelta

    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    if text[:-1].isdecimal() and text[-1] in units and len(text) < 9:
        return (datetime.now(UTC) - timedelta(**{units[text[-1]]: int(text[:-1])})).isoformat()
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time such as 2026-01-31T12:00:00Z, and no age such as 90s, 15m, 2h or 3d"
        ) from None
    return text


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text} is too large")
    return value
