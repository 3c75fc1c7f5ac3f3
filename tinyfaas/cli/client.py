"""One request and its answer over MQTT: connect, subscribe, publish, listen; in one thread, no longer than asked.

A request is given up together with its sender: on MQTT 5 it expires in the broker, so that a `delete` that nobody
waits for any more is not carried out when the server comes back tomorrow.
"""

from __future__ import annotations

import json
import math
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from tinyfaas.cli.failures import Absent, NoAnswer, Refused, Unreachable, Unusable
from tinyfaas.config import Mqtt
from tinyfaas.gateway.client import Session, make_client
from tinyfaas.protocol import encode

_TICK_S = 1.0
_NO_SUBSCRIBER = 16  # MQTT 5: the broker took the message and has nobody to give it to
_WHO = (134, 135)  # bad user name or password; not authorized
_UNTOLD = "Unspecified error"  # what paho says where a broker gave no reason


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A request and where it is answered.

    Errors that have no topic of their own come on `error_topic`. What is told before the answer comes on
    `event_topic`, empty where nothing is. `timeout_s` is for all of it, `first_sign_s` for the time from when the
    broker has the request until anything is heard.
    """

    topic: str
    body: Mapping[str, Any]
    answer_topic: str
    error_topic: str
    timeout_s: float
    first_sign_s: float
    event_topic: str = ""


class Heard(NamedTuple):
    """What came for a request: its answer, or an event before that."""

    body: dict[str, Any]
    is_answer: bool


def exchange(settings: Mqtt, inquiry: Inquiry) -> Iterator[Heard]:
    """Send a request and hand out what is heard, the answer last.

    Raises `Unreachable`, `NoAnswer`, `Unusable` for a request too large for MQTT, or `ConfigError` for TLS files.
    """
    line = _Line(settings, inquiry)
    try:
        line.connect()
        line.subscribe()
        line.publish()
        yield from line.listen()
    finally:
        line.close()


def greet(settings: Mqtt, timeout_s: float) -> dict[str, Any]:
    """Connect, and say goodbye: what the broker tells of itself at that (MQTT 5; else nothing).

    Raises `Refused`, `Unreachable`, or `ConfigError` for TLS files.
    """
    line = _Line(settings, Inquiry("", {}, "", "", timeout_s, timeout_s))
    try:
        line.connect()
        return line.told
    finally:
        line.close()


class _Line:
    """A connection for one request. What paho calls back is noted; `_wait` reads on until it is there."""

    def __init__(self, settings: Mqtt, inquiry: Inquiry) -> None:
        self._inquiry = inquiry
        self._where = f"[{settings.host}]" if ":" in settings.host else settings.host
        self._where += f":{settings.port}"
        self._v5 = settings.protocol == "5"
        self._deadline_s = time.monotonic() + inquiry.timeout_s
        self._request_id = secrets.token_hex(8)
        self.told: dict[str, Any] = {}
        self._connack: ReasonCode | None = None
        self._subacks: dict[int, ReasonCode] = {}
        self._puback: ReasonCode | None = None
        self._reason = ""
        self._heard: deque[Heard] = deque()
        # 23 characters are what every broker must accept.
        session = Session(f"tinyfaas-cli-{secrets.token_hex(5)}", lasting=False)
        self._client = make_client(settings, session)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_publish = self._on_publish
        self._client.on_message = self._on_message

    def connect(self) -> None:
        """Connect and be accepted."""
        try:
            self._client.reconnect()
        except (OSError, ValueError) as error:
            raise Unreachable(f"no broker at {self._where}: {_told(error)}") from None
        if not self._wait(lambda: self._connack is not None):
            raise Unreachable(f"no broker at {self._where}: something listens there and says nothing")
        if self._connack is not None and self._connack.is_failure:
            hint = "; see TINYFAAS_MQTT_USERNAME, TINYFAAS_MQTT_PASSWORD_FILE" if self._connack.value in _WHO else ""
            raise Refused(f"the broker at {self._where} refused us: {_lowered(str(self._connack))}{hint}")

    def subscribe(self) -> None:
        """Subscribe to where answers come; only the request's own topic must be allowed."""
        topics = (self._inquiry.answer_topic, self._inquiry.error_topic, self._inquiry.event_topic)
        mids = [self._client.subscribe(topic, qos=1)[1] for topic in topics if topic]
        if not self._wait(lambda: len(self._subacks) == len(mids)):
            raise Unreachable(f"the broker at {self._where} does not answer")
        if mids[0] is not None and (reason := self._subacks[mids[0]]).is_failure:
            topic = self._inquiry.answer_topic
            raise Unreachable(
                f"the broker at {self._where} refused to let us subscribe to {topic}: {_lowered(str(reason))}"
            )

    def publish(self) -> None:
        """Send the request; returns when the broker has it."""
        payload = encode({"request_id": self._request_id, **self._inquiry.body})
        properties = None
        if self._v5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.ContentType = "application/json"
            properties.MessageExpiryInterval = math.ceil(self._patience_s)
        try:
            self._client.publish(self._inquiry.topic, payload, 1, False, properties)
        except ValueError as error:
            raise Unusable(f"the request can't be sent: {_told(error)}") from None
        if not self._wait(lambda: self._puback is not None or bool(self._heard)):
            raise Unreachable(f"the broker at {self._where} does not take the request")
        if self._puback is None:
            return  # the answer was quicker than the acknowledgement
        if self._puback.value == _NO_SUBSCRIBER:
            raise Absent(f"no tinyfaas server at {self._where}: nobody subscribes to {self._inquiry.topic}")
        if self._puback.is_failure:
            raise Unreachable(f"the broker at {self._where} refused the request: {_lowered(str(self._puback))}")

    def listen(self) -> Iterator[Heard]:
        """What the server says, the answer last."""
        if not self._wait(lambda: bool(self._heard), min(self._deadline_s, time.monotonic() + self._patience_s)):
            node = self._inquiry.body.get("node")
            server = f"the node {node}" if node else "a tinyfaas server"
            raise NoAnswer(f"no answer within {self._patience_s:g} s: is {server} connected to {self._where}?")
        while self._wait(lambda: bool(self._heard)):
            heard = self._heard.popleft()
            yield heard
            if heard.is_answer:
                return
        raise NoAnswer(f"no answer within {self._inquiry.timeout_s:g} s, though the server has begun")

    def close(self) -> None:
        """Say goodbye, as far as that is possible."""
        self._client.disconnect()

    @property
    def _patience_s(self) -> float:
        return min(self._inquiry.first_sign_s, self._inquiry.timeout_s)

    def _wait(self, met: Callable[[], bool], until_s: float | None = None) -> bool:
        """Read and write until a condition is met; False if that takes too long. Raises `Unreachable`."""
        until_s = self._deadline_s if until_s is None else until_s
        while not met():
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                return False
            if self._client.loop(min(left_s, _TICK_S)) != MQTTErrorCode.MQTT_ERR_SUCCESS and not met():
                raise Unreachable(self._loss())
        return True

    def _loss(self) -> str:
        why = f": {_lowered(self._reason)}" if self._reason not in ("", _UNTOLD) else ""
        if self._connack is None:
            return f"no broker at {self._where}: the connection was closed before a word of MQTT{why}"
        return f"the connection to the broker at {self._where} was lost{why}"

    def _on_connect(self, _client: Client, _data: Any, _flags: Any, reason: ReasonCode, properties: Any) -> None:
        self._connack = reason
        self.told = properties.json() if properties else {}

    def _on_disconnect(self, _client: Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        self._reason = str(reason)

    def _on_subscribe(self, _client: Client, _data: Any, mid: int, reasons: list[ReasonCode], _properties: Any) -> None:
        self._subacks[mid] = reasons[0]

    def _on_publish(self, _client: Client, _data: Any, _mid: int, reason: ReasonCode, _properties: Any) -> None:
        self._puback = reason

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        # Others' answers come here too; most need not be parsed to tell.
        if self._request_id.encode() not in message.payload:
            return
        try:
            body = json.loads(message.payload)
        except (ValueError, RecursionError):
            return
        if isinstance(body, dict) and body.get("request_id") == self._request_id:
            self._heard.append(Heard(body, message.topic != self._inquiry.event_topic))


def _told(error: Exception) -> str:
    """What an error says, without its number."""
    return _lowered((isinstance(error, OSError) and error.strerror) or str(error))


def _lowered(text: str) -> str:
    """With a small first letter, as it stands within a sentence."""
    return text[:1].lower() + text[1:]
