"""What a function gets that asks for `context`: who it is, which call this is, a logger, and leave to publish.

Nothing here is what holds a function to its bounds: that is the server's, which believes no frame. What is refused here
is what the server would refuse, said sooner.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import time
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import faaswire

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_encode_anything = json.JSONEncoder(default=str, separators=(",", ":")).encode  # ASCII, and of an object what it says
_decode = json.loads
_KEYWORD_CAPABLE = ("POSITIONAL_OR_KEYWORD", "KEYWORD_ONLY")


class Channel(Protocol):
    """The socket to the server, as far as it matters here."""

    def send(self, kind: int, number: int, body: bytes) -> None:
        """Send one frame."""

    def receive(self) -> tuple[int, int, bytes]:
        """Kind, number and body of the next frame."""


class PublishError(Exception):
    """A publication that the server did not take."""

    code = ""


class Forbidden(PublishError):
    """The function may not publish this, or no more in this call."""

    code = "forbidden"


class Unavailable(PublishError):
    """The broker is away, or takes no more just now."""

    code = "unavailable"


for _kind in (PublishError, Forbidden, Unavailable):
    _kind.__module__ = "context"  # as a function calls them, and sees them in a traceback

_RAISED: dict[str, type[PublishError]] = {kind.code: kind for kind in (Forbidden, Unavailable)}


def wanted(main: Callable[..., Any]) -> bool:
    """Whether `main` has a parameter `context` that can be given by keyword."""
    if type(main) is types.FunctionType and not hasattr(main, "__wrapped__"):
        code = main.__code__
        return "context" in code.co_varnames[code.co_posonlyargcount : code.co_argcount + code.co_kwonlyargcount]
    inspect = importlib.import_module("inspect")  # few need it, and it is large
    try:
        parameter = inspect.signature(main).parameters.get("context")
    except (TypeError, ValueError):
        return False
    return parameter is not None and parameter.kind.name in _KEYWORD_CAPABLE


class Line:
    """The way to the server of one call at a time. A thread that outlives its call finds it closed."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._number = 0
        self._open = False
        self._speaking = threading.Lock()
        self._process = os.getpid()
        self._records = self._publications = 0

    def begin(self, number: int) -> None:
        """A call begins."""
        self._number, self._open = number, True
        self._records = self._publications = 0

    def end(self) -> None:
        """It is over: nothing more is said in its name."""
        with self._speaking:
            self._open = False

    def say(self, level: str, message: object, fields: Mapping[str, Any]) -> None:
        """Hand the server a log record; nobody waits for it. What is too much for it is printed, and bounded there."""
        text = str(message)[: faaswire.LONGEST_LOG_TEXT]
        try:
            body = _encode_anything([level, text, fields]).encode("ascii")
        except (ValueError, RecursionError):  # a circle
            body = _encode_anything([level, text, {name: repr(value) for name, value in fields.items()}]).encode(
                "ascii"
            )
        if len(body) <= faaswire.LARGEST_LOG_BYTES and self._in_its_process():
            with self._speaking:
                if self._open and self._records < faaswire.MOST_LOGS:
                    self._records += 1
                    self._channel.send(faaswire.LOG, self._number, body)
                    return
        print(f"{level}: {text}", file=sys.stderr)

    def publish(self, number: int, topic: bytes, payload: bytes, flags: int) -> None:
        """Hand the server a publication of a call and hear what becomes of it; raises a `PublishError`."""
        body = faaswire.PUBLICATION.pack(flags, len(topic)) + topic + payload
        if not self._in_its_process():
            raise RuntimeError("only the process that main was called in can publish, and not its children")
        with self._speaking:
            if not self._open or number != self._number:
                raise RuntimeError("the call that this context belongs to is over")
            if self._publications >= faaswire.MOST_PUBLICATIONS:
                raise Forbidden(f"a call may publish {faaswire.MOST_PUBLICATIONS} times")
            if len(body) > faaswire.LARGEST_PUBLICATION_BYTES:
                raise Forbidden("the payload is too large")
            self._publications += 1
            self._channel.send(faaswire.PUBLISH, self._number, body)
            said = self._channel.receive()[2]
        if said:
            refusal = _decode(said)
            raise _RAISED[refusal["code"]](refusal["error"])

    def _in_its_process(self) -> bool:
        """A child of the function's has the socket too, and may have been born while somebody held the lock."""
        return os.getpid() == self._process


class Log:
    """A logger: its records reach the server's log with their fields."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def debug(self, message: object, /, **fields: Any) -> None:
        """Say what only a developer wants to know."""
        self._line.say("debug", message, fields)

    def info(self, message: object, /, **fields: Any) -> None:
        """Say what went as it should."""
        self._line.say("info", message, fields)

    def warning(self, message: object, /, **fields: Any) -> None:
        """Say what went wrong, and that it goes on."""
        self._line.say("warning", message, fields)

    def error(self, message: object, /, **fields: Any) -> None:
        """Say what somebody should look at."""
        self._line.say("error", message, fields)


class Context:
    """What a call knows of itself. `deadline` is the `time.monotonic()` at which it is killed."""

    Forbidden = Forbidden
    Unavailable = Unavailable
    PublishError = PublishError

    def __init__(self, identity: Identity, line: Line, number: int, call: Mapping[str, Any]) -> None:
        self.function = identity.function
        self.version = identity.version
        self.node = identity.node
        self.state = identity.state
        self.id: str = call["id"]
        self.request_id: str = call["request_id"]
        self.deadline: float = call["deadline"]
        self.log = identity.log
        self._line = line
        self._number = number

    def __repr__(self) -> str:
        return f"<context of call {self.id} of {self.function} v{self.version}>"

    def seconds_left(self) -> float:
        """Seconds until the call is killed, by a clock that does not jump; below 0 when it should have been."""
        return self.deadline - time.monotonic()

    def publish(self, topic: str, payload: Any = b"", *, qos: int = 0, retain: bool = False) -> None:
        """Publish bytes or str as they are, anything else as JSON. Returns once the server has sent it.

        Raises `context.Forbidden` where the settings' `publish` does not list the topic, `context.Unavailable` while
        the broker is away, and `TypeError` or `ValueError` for what can't be published.
        """
        if qos not in (0, 1) or isinstance(qos, bool):
            raise ValueError(f"qos must be 0 or 1, not {qos!r}")
        if not isinstance(topic, str):
            raise TypeError(f"topic must be str, not {type(topic).__name__}")
        flags = qos | (faaswire.RETAIN if retain else 0)
        if isinstance(payload, bytes | bytearray | memoryview):
            data = bytes(payload)
        elif isinstance(payload, str):
            data = payload.encode("utf-8")
        else:
            data = _encode(payload).encode("utf-8")
            flags |= faaswire.JSON
        name = topic.encode("utf-8")
        if len(name) > faaswire.LONGEST_TOPIC_BYTES:
            raise Forbidden(f"the topic has {len(name)} bytes, {faaswire.LONGEST_TOPIC_BYTES} are allowed")
        self._line.publish(self._number, name, data, flags)


class Identity:
    """What all calls of a worker have in common, taken from its environment before the function could change that."""

    def __init__(self, line: Line, environ: Mapping[str, str]) -> None:
        self.function = environ["TINYFAAS_FUNCTION"]
        self.version = int(environ["TINYFAAS_VERSION"])
        self.node = environ["TINYFAAS_NODE"]
        self.state = Path(environ["TINYFAAS_STATE_DIR"])
        self.log = Log(line)


class Contexts:
    """Makes a context for each call, from the head that the server puts before its payload."""

    def __init__(self, channel: Channel, environ: Mapping[str, str]) -> None:
        self._line = Line(channel)
        self._identity = Identity(self._line, environ)

    def begin(self, number: int, body: bytes) -> tuple[Context, bytes]:
        """The context of a call and its payload."""
        (length,) = faaswire.CONTEXT_LENGTH.unpack_from(body)
        start = faaswire.CONTEXT_LENGTH.size
        self._line.begin(number)
        call = _decode(body[start : start + length])
        return Context(self._identity, self._line, number, call), body[start + length :]

    def end(self) -> None:
        """The call is over."""
        self._line.end()
