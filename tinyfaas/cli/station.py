"""A connection for commands that go on until Ctrl-C: asks many questions, hears what is published meanwhile, and comes
back by itself when the broker was away.
"""

from __future__ import annotations

import argparse
import math
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

from tinyfaas.cli import broker
from tinyfaas.cli.failures import Unreachable
from tinyfaas.cli.line import Line, Message
from tinyfaas.protocol import Topics, encode

_CONNECT_S = 10.0
_PAUSE_S = 1.0


class Station:
    """`listens_to` says on which topics; only the first must be allowed. `lost` says why the broker is away."""

    def __init__(self, args: argparse.Namespace, listens_to: Callable[[Topics], Sequence[str]]) -> None:
        self._mqtt = broker.settings(args, os.environ)
        self.topics = Topics(self._mqtt.base_topic, self._mqtt.response_topic)
        self.node = args.node or ""
        self.lost = ""
        self.opened = 0  # how often
        self._heard_on = listens_to(self.topics)
        self._line: Line | None = None

    def __enter__(self) -> Station:
        self._open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()

    @property
    def where(self) -> str:
        """The broker's host and port."""
        return f"{self._mqtt.host}:{self._mqtt.port}"

    def ask(self, command: str, function: str, body: Mapping[str, Any], expiry_s: float) -> str:
        """Send an administrative request; returns its id, or nothing while the broker is away."""
        if self._line is None:
            return ""
        request_id = secrets.token_hex(8)
        topic = self.topics.admin_prefix + (f"{command}/{function}" if function else command)
        node = {"node": self.node} if self.node else {}
        self._line.publish(topic, encode({"request_id": request_id, **node, **body}), math.ceil(expiry_s))
        return request_id

    def hear(self, until_s: float) -> Message | None:
        """What comes next, or None if nothing does by the monotonic `until_s`, or the broker is away."""
        try:
            if self._line is None:
                self._open()
            assert self._line is not None
            return self._line.next(until_s)
        except Unreachable as error:
            self._close()
            self.lost = str(error)
            time.sleep(max(0.0, min(_PAUSE_S, until_s - time.monotonic())))
            return None

    def _open(self) -> None:
        line = Line(self._mqtt)
        try:
            line.connect(time.monotonic() + _CONNECT_S)
            line.subscribe(self._heard_on, time.monotonic() + _CONNECT_S)
        except BaseException:
            line.close()
            raise
        self._line, self.lost = line, ""
        self.opened += 1

    def _close(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None
