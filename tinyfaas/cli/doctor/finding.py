"""What a check says: how it stands, what was found, and how to fix it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How a check ended, from good to bad; `SKIP` where it could not be told or does not apply."""

    OK = "ok"
    SKIP = "skip"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """`fix` is one or two lines, commands as they are typed; empty where there is nothing to fix."""

    state: State
    found: str
    fix: str = ""


def ok(found: str) -> Finding:
    """All is well."""
    return Finding(State.OK, found)


def skip(why: str, fix: str = "") -> Finding:
    """It can't be told, or does not apply here."""
    return Finding(State.SKIP, why, fix)


def warn(found: str, fix: str) -> Finding:
    """The server works, and less well than it could."""
    return Finding(State.WARN, found, fix)


def fail(found: str, fix: str) -> Finding:
    """The server can't work as it is set up."""
    return Finding(State.FAIL, found, fix)
