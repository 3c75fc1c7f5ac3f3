"""The server's end of a function's `context`: what the function may say while its call runs, and what it is told.

A function may write to its channel whatever it likes. So everything is checked here, and what a worker that keeps to
the rules would never send ends it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

from tinyfaas.child import faaswire
from tinyfaas.errors import Failure, Forbidden, Unavailable
from tinyfaas.model import FunctionSpec, Publication
from tinyfaas.output import Output
from tinyfaas.protocol import encode

Publish = Callable[[FunctionSpec, Publication, str], None]

_LEVELS = ("debug", "info", "warning", "error")
_FIELD_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
_MOST_FIELDS = 32
_LONGEST_VALUE = 1_024  # characters


class Spoilt(Exception):
    """The function wrote to its channel what a worker does not."""


class Asides:
    """What is said beside the answer, in one call after another of one worker."""

    def __init__(self, spec: FunctionSpec, output: Output, publish: Publish) -> None:
        self._spec = spec
        self._output = output
        self._publish = publish
        self._refusal: Failure | None = None
        self._chain = ""
        self._records = self._publications = self._bytes = 0

    def begin(self, invocation: str, request_id: str, chain: str, deadline_s: float, payload: bytes) -> bytes:
        """The body of a call's frame. `chain` names the functions that led to the call, `deadline_s` is monotonic."""
        self._refusal, self._chain = None, chain
        self._records = self._publications = self._bytes = 0
        head = encode({"id": invocation, "request_id": request_id or invocation, "deadline": deadline_s})
        return b"".join((faaswire.CONTEXT_LENGTH.pack(len(head)), head, payload))

    def largest_frame(self) -> int:
        """Bytes of the largest body that may come in a call."""
        return self._spec.limits.max_result_bytes + faaswire.LARGEST_ERROR_BYTES

    def heed(self, kind: int, body: bytes) -> bytes | None:
        """Do what a frame asks for; returns what the worker is told, or None where it waits for nothing.

        Raises `Spoilt` for what no worker sends.
        """
        if kind == faaswire.LOG:
            self._records += 1
            if self._records > faaswire.MOST_LOGS or len(body) > faaswire.LARGEST_LOG_BYTES:
                raise Spoilt
            self._log(body)
            return None
        if kind != faaswire.PUBLISH:
            raise Spoilt
        self._publications += 1
        if self._publications > faaswire.MOST_PUBLICATIONS:
            raise Spoilt
        try:
            self._published(body)
        except (Forbidden, Unavailable) as refusal:
            self._refusal = refusal
            return encode({"code": refusal.code, "error": refusal.message})
        return b""

    def refused(self, code: object) -> type[Failure] | None:
        """The failure of a call that ends with this code, if a publication of it was refused so."""
        return type(self._refusal) if self._refusal is not None and self._refusal.code == code else None

    def _published(self, body: bytes) -> None:
        if len(body) < faaswire.PUBLICATION.size:
            raise Spoilt
        flags, length = faaswire.PUBLICATION.unpack_from(body)
        start = faaswire.PUBLICATION.size
        name, payload = body[start : start + length], body[start + length :]
        self._bytes += len(payload)
        if self._bytes > (most := self._spec.limits.max_result_bytes):
            raise Forbidden(f"a call may publish {most} bytes together (max_result_bytes)")
        try:
            topic = name.decode("utf-8")
        except UnicodeDecodeError:
            raise Forbidden("the topic is not UTF-8") from None
        self._publish(
            self._spec,
            Publication(
                topic,
                payload,
                qos=flags & faaswire.QOS,
                retain=bool(flags & faaswire.RETAIN),
                json=bool(flags & faaswire.JSON),
            ),
            self._chain,
        )

    def _log(self, body: bytes) -> None:
        try:
            level, text, fields = json.loads(body)
        except (ValueError, TypeError, RecursionError):
            raise Spoilt from None
        if level not in _LEVELS or not isinstance(text, str) or not isinstance(fields, dict):
            raise Spoilt
        shown = {
            name: _shown(value) for name, value in list(fields.items())[:_MOST_FIELDS] if _FIELD_NAME.fullmatch(name)
        }
        self._output.record(level, text[: faaswire.LONGEST_LOG_TEXT], shown, len(body))


def _shown(value: Any) -> str | float | bool | None:
    """A field's value as the log may show it: what is neither a number nor short becomes text, and is cut."""
    if value is None or isinstance(value, bool) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, int) and abs(value) < 1 << 63:
        return value
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"
