"""One request and its answer over MQTT: connect, subscribe, publish, listen; in one thread, no longer than asked.

A request is given up together with its sender: on MQTT 5 it expires in the broker, so that a `delete` that nobody
waits for any more is not carried out when the server comes back tomorrow.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from tinyfaas.cli.failures import Absent, NoAnswer, Unreachable
from tinyfaas.cli.line import Line, lowered
from tinyfaas.config import Mqtt
from tinyfaas.protocol import encode

_NO_SUBSCRIBER = 16  # MQTT 5: the broker took the message and has nobody to give it to


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A request and where it is answered.

    Errors that have no topic of their own come on `error_topic`. What is told before the answer comes on
    `event_topic`, empty where nothing is. `timeout_s` is for all of it, `first_sign_s` for the time from when the
    broker has the request until anything is heard. With `nodes_topic`, where presence stands, every node that is
    online is waited for.
    """

    topic: str
    body: Mapping[str, Any]
    answer_topic: str
    error_topic: str
    timeout_s: float
    first_sign_s: float
    event_topic: str = ""
    nodes_topic: str = ""


class Heard(NamedTuple):
    """What came for a request: an answer, or an event before that."""

    body: dict[str, Any]
    is_answer: bool


def exchange(settings: Mqtt, inquiry: Inquiry) -> Iterator[Heard]:
    """Send a request and hand out what is heard, the answer last; the answers of all nodes where all are asked.

    Raises `Unreachable`, `NoAnswer`, `Unusable` for a request too large for MQTT, or `ConfigError` for TLS files.
    """
    request = _Request(settings, inquiry)
    try:
        request.ask()
        yield from request.listen()
    finally:
        request.close()


def send(settings: Mqtt, inquiry: Inquiry) -> str:
    """Send a request and wait for no answer; returns its id when the broker has it. Raises as `exchange` does.

    It waits for a server that is away as long as `first_sign_s`, where the broker keeps it.
    """
    request = _Request(settings, inquiry)
    try:
        request.connect()
        request.publish()
    finally:
        request.close()
    return request.id


def greet(settings: Mqtt, timeout_s: float) -> dict[str, Any]:
    """Connect, and say goodbye: what the broker tells of itself at that (MQTT 5; else nothing).

    Raises `Refused`, `Unreachable`, or `ConfigError` for TLS files.
    """
    line = Line(settings)
    try:
        line.connect(time.monotonic() + timeout_s)
        return line.told
    finally:
        line.close()


class _Request:
    """A connection for one request."""

    def __init__(self, settings: Mqtt, inquiry: Inquiry) -> None:
        self.id = str(inquiry.body.get("request_id") or secrets.token_hex(8))
        self._inquiry = inquiry
        self._deadline_s = time.monotonic() + inquiry.timeout_s
        self._online: set[str] = set()
        self._nodes = inquiry.nodes_topic.removesuffix("+")
        # Others' answers come here too; most need not be parsed to tell.
        mark = self.id.encode()
        self._line = Line(settings, lambda payload: mark in payload or (bool(self._nodes) and b'"instance"' in payload))

    def connect(self) -> None:
        """Connect and be accepted."""
        self._line.connect(self._deadline_s)

    def ask(self) -> None:
        """Subscribe to where answers come, only one of which must be allowed; and send the request."""
        self.connect()
        inquiry = self._inquiry
        topics = (inquiry.answer_topic, inquiry.error_topic, inquiry.event_topic, inquiry.nodes_topic)
        self._line.subscribe([topic for topic in topics if topic], self._deadline_s)
        self.publish()

    def publish(self) -> None:
        """Send the request; returns when the broker has it."""
        line, payload = self._line, encode({"request_id": self.id, **self._inquiry.body})
        mid = line.publish(self._inquiry.topic, payload, math.ceil(self._patience_s))
        if not line.wait(lambda: line.receipt(mid) is not None or self._is_answered(), self._deadline_s):
            raise Unreachable(f"the broker at {line.where} does not take the request")
        receipt = line.receipt(mid)
        if receipt is None:
            return  # the answer was quicker than the acknowledgement
        if receipt.value == _NO_SUBSCRIBER:
            raise Absent(f"no tinyfaas server at {line.where}: nobody subscribes to {self._inquiry.topic}")
        if receipt.is_failure:
            raise Unreachable(f"the broker at {line.where} refused the request: {lowered(str(receipt))}")

    def listen(self) -> Iterator[Heard]:
        """What the servers say."""
        first_s = min(self._deadline_s, time.monotonic() + self._patience_s)
        answered: set[str] = set()
        begun = False
        while True:
            message = self._line.next(self._deadline_s if begun and not answered else first_s)
            if message is None:
                break
            if self._nodes and message.topic.startswith(self._nodes):
                self._note_presence(message.body)
            elif message.body.get("request_id") == self.id:
                is_answer = message.topic != self._inquiry.event_topic
                begun = True
                yield Heard(message.body, is_answer)
                if is_answer:
                    answered.add(str(message.body.get("node")))
                elif self._nodes:
                    first_s = self._deadline_s  # somebody is at work: the others may be, too
            if answered and self._online <= answered:
                return
        self._complain(begun, sorted(self._online - answered) if answered else [])

    def close(self) -> None:
        """Say goodbye."""
        self._line.close()

    @property
    def _patience_s(self) -> float:
        return min(self._inquiry.first_sign_s, self._inquiry.timeout_s)

    def _is_answered(self) -> bool:
        return any(message.body.get("request_id") == self.id for message in self._line.heard)

    def _note_presence(self, body: Mapping[str, Any]) -> None:
        node, wanted = str(body.get("node", "")), self._inquiry.body.get("node")
        if body.get("state") == "online" and node and wanted in (None, node):
            self._online.add(node)
        else:
            self._online.discard(node)

    def _complain(self, begun: bool, missing: list[str]) -> None:
        if missing:
            raise NoAnswer(f"no answer of {', '.join(missing)} in time, though presence says online; --node names one")
        if begun:
            raise NoAnswer(f"no answer within {self._inquiry.timeout_s:g} s, though the server has begun")
        node = self._inquiry.body.get("node")
        server = f"the node {node}" if node else "a tinyfaas server"
        raise NoAnswer(f"no answer within {self._patience_s:g} s: is {server} connected to {self._line.where}?")
