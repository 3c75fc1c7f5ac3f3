"""Every way a request can fail, by name. The docstring is the meaning; `code` is what goes on the wire.

A `Failure` is an answer, not an accident: whoever raises one has decided what the caller shall read.
"""

from __future__ import annotations

from typing import ClassVar


class Failure(Exception):
    """A request that ends in an error answer. `details` are further keys of that answer."""

    code: ClassVar[str] = "internal"
    cold = False  # whether a worker had been started for the call

    def __init__(self, message: str, **details: object) -> None:
        super().__init__(message)
        self.message = one_line(message)
        self.details = details


class FunctionError(Failure):
    """`main` raised."""

    code = "function_error"


class Timeout(Failure):
    """It ran longer than its limit and was killed."""

    code = "timeout"


class OutOfMemory(Failure):
    """It passed its memory limit: killed, or `MemoryError` at the limit."""

    code = "out_of_memory"


class Crashed(Failure):
    """Its process died by itself: a signal, `os._exit`, or a frame channel closed or spoilt."""

    code = "crashed"


class BadResult(Failure):
    """It returned something JSON can't hold, or more than the limit."""

    code = "bad_result"


class NotFound(Failure):
    """No such function, or no version to roll back to."""

    code = "not_found"


class BadRequest(Failure):
    """The request itself is wrong: payload, types, name, base64, setting, size, command."""

    code = "bad_request"


class Overloaded(Failure):
    """The server holds as much as it may (QoS 0 only)."""

    code = "overloaded"


class Expired(Failure):
    """The message expiry or the deadline passed before the request could start."""

    code = "expired"


class BuildFailed(Failure):
    """An upload whose environment or import failed; `detail` holds the last lines of what was printed."""

    code = "build_failed"


class Forbidden(Failure):
    """Not allowed: response topic, publish topic, unsigned upload."""

    code = "forbidden"


class Unavailable(Failure):
    """The server is stopping, or the function is failing and backed off."""

    code = "unavailable"


class Internal(Failure):
    """A fault of the server's own; the traceback is in its log, not in the answer."""

    code = "internal"


class ConfigError(Exception):
    """A setting that can't be used: one line that says which key, where, and what is allowed."""


class AlreadyRunning(Exception):
    """Another server holds this data directory."""


LONGEST_MESSAGE = 500


def one_line(text: str) -> str:
    """Fold `text` to one line of at most `LONGEST_MESSAGE` characters, as `error` on the wire must be."""
    folded = " ".join(text.split())
    return folded if len(folded) <= LONGEST_MESSAGE else folded[: LONGEST_MESSAGE - 1] + "…"
