"""Exit statuses, after sysexits.h where it has one."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """What a process of tinyfaas says when it ends."""

    OK = 0
    """All went well."""
    FAILED = 1
    """The answer is an error, or something is not as it should be."""
    USAGE = 2
    """The command line can't be understood."""
    FORCED = 3
    """The server was told to stop a second time and did so at once."""
    UNREACHABLE = 69
    """There is no broker there, or it refuses us."""
    LOCKED = 73
    """Another server holds the data directory."""
    CANT_CREATE = 74
    """A folder or file the server needs can't be used."""
    TIMEOUT = 75
    """No answer came in time."""
    CONFIG = 78
    """A setting can't be used."""
    INTERRUPTED = 130
    """Ctrl-C."""
    READER_GONE = 141
    """Whoever read our output went away, as `head` does."""
